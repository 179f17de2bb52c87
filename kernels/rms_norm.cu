// Root-mean-square norm of rows: y = x / sqrt(mean(x^2) + eps) * weight, and its gradients.
//   x, y, dy, dx [rows, d]; weight [d]; inverse [rows], the reciprocal roots; dweight [blocks of rows, d].
// forward, backward_input: one block a row. backward_weight: common/columns.cuh.
// Bound by memory: one read of x (and dy), one write.
#include "common/columns.cuh"
#include "common/reduce.cuh"

KERNEL(256, lea_rms_norm_forward, size_t d, float eps, const float* x, const float* weight, float* y, float* inverse) {
    const size_t first = blockIdx.x * d;
    float squares = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) squares += x[first + i] * x[first + i];
    const float scale = 1.0f / sqrtf(lea::block_sum(squares) / (float)d + eps);
    if (threadIdx.x == 0) inverse[blockIdx.x] = scale;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) y[first + i] = x[first + i] * scale * weight[i];
}

// dx = s (g - x s^2 mean(g x)) with g = dy weight and s the reciprocal root.
KERNEL(256, lea_rms_norm_backward_input, size_t d, const float* x, const float* weight, const float* inverse,
       const float* dy, float* dx) {
    const size_t first = blockIdx.x * d;
    float products = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) products += dy[first + i] * weight[i] * x[first + i];
    const float scale = inverse[blockIdx.x];
    const float mean = lea::block_sum(products) * scale * scale / (float)d;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x)
        dx[first + i] = scale * (dy[first + i] * weight[i] - x[first + i] * mean);
}

// dweight = sum over rows of dy x s.
KERNEL(256, lea_rms_norm_backward_weight, const float* x, const float* inverse, const float* dy, size_t rows, size_t d,
       float* dweight) {
    lea::column_sums(rows, d, dweight, [=](size_t row, size_t column) {
        return dy[row * d + column] * x[row * d + column] * inverse[row];
    });
}
