// Root-mean-square norm and dot product with one vector, fused: score = x . head / sqrt(mean(x^2) + eps), and gradients.
//   x, dx [rows, d]; head [d], the norm's weight times the score head; dhead [blocks of rows, d]; scores, dscores, inverse [rows],
//   inverse the reciprocal roots.
// forward, backward_input: one block a row. backward_head: common/columns.cuh.
// Bound by memory: one read of x, backward_input one write.
#include "common/columns.cuh"
#include "common/reduce.cuh"

KERNEL(256, lea_norm_score_forward, size_t d, float eps, const float* x, const float* head, float* scores, float* inverse) {
    const size_t first = blockIdx.x * d;
    float squares = 0.0f, products = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) {
        const float value = x[first + i];
        squares += value * value;
        products += value * head[i];
    }
    const float mean = lea::block_sum(squares) / (float)d;
    const float product = lea::block_sum(products);
    if (threadIdx.x != 0) return;
    const float scale = 1.0f / sqrtf(mean + eps);
    inverse[blockIdx.x] = scale;
    scores[blockIdx.x] = product * scale;
}

KERNEL(256, lea_norm_score_backward_input, size_t d, const float* x, const float* head, const float* scores,
       const float* inverse, const float* dscores, float* dx) {
    const size_t row = blockIdx.x, first = row * d;
    const float scale = dscores[row] * inverse[row];
    const float radial = scores[row] * inverse[row] / (float)d;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) dx[first + i] = scale * (head[i] - x[first + i] * radial);
}

KERNEL(256, lea_norm_score_backward_head, const float* x, const float* inverse, const float* dscores, size_t rows, size_t d,
       float* dhead) {
    lea::column_sums(rows, d, dhead, [=](size_t row, size_t column) {
        return dscores[row] * inverse[row] * x[row * d + column];
    });
}
