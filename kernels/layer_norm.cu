// Layer norm of rows: y = (x - mean) / sqrt(variance + eps) * weight + bias, and its gradients.
//   x, y, dy, dx [rows, d]; weight, bias [d]; moments [rows, 2], mean and reciprocal root; dweight, dbias [blocks of rows, d].
// forward, backward_input: one block a row. backward_weight, backward_bias (kernels/sum_rows.cu): common/columns.cuh.
// Bound by memory: one read of x (and dy), one write.
#include "common/columns.cuh"
#include "common/reduce.cuh"

KERNEL(256, lea_layer_norm_forward, size_t d, float eps, const float* x, const float* weight, const float* bias, float* y,
       float* moments) {
    const size_t first = blockIdx.x * d;
    float total = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) total += x[first + i];
    const float mean = lea::block_sum(total) / (float)d;
    float squares = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) {
        const float centred = x[first + i] - mean;
        squares += centred * centred;
    }
    const float scale = 1.0f / sqrtf(lea::block_sum(squares) / (float)d + eps);
    if (threadIdx.x == 0) {
        moments[2 * (size_t)blockIdx.x] = mean;
        moments[2 * (size_t)blockIdx.x + 1] = scale;
    }
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) y[first + i] = (x[first + i] - mean) * scale * weight[i] + bias[i];
}

KERNEL(256, lea_layer_norm_backward_input, size_t d, const float* x, const float* weight, const float* moments,
       const float* dy, float* dx) {
    const size_t first = blockIdx.x * d;
    const float mean = moments[2 * (size_t)blockIdx.x], scale = moments[2 * (size_t)blockIdx.x + 1];
    float plain = 0.0f, along = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) {
        const float g = lea::product(dy[first + i], weight[i]);
        plain += g;
        along += g * ((x[first + i] - mean) * scale);
    }
    const float mean_g = lea::block_sum(plain) / (float)d;
    const float mean_gx = lea::block_sum(along) / (float)d;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) {
        const float normed = (x[first + i] - mean) * scale;
        dx[first + i] = scale * (lea::product(dy[first + i], weight[i]) - mean_g - normed * mean_gx);
    }
}

KERNEL(256, lea_layer_norm_backward_weight, const float* x, const float* moments, const float* dy, size_t rows, size_t d,
       float* dweight) {
    lea::column_sums(rows, d, dweight, [=](size_t row, size_t column) {
        return dy[row * d + column] * ((x[row * d + column] - moments[2 * row]) * moments[2 * row + 1]);
    });
}
