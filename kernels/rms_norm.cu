// Root-mean-square norm of rows: y = x / sqrt(mean(x^2) + eps) * weight, and its gradients.
//   x, dy, dx [rows, d]; y [rows, d], f32 or bf16; weight [d]; inverse [rows], the reciprocal roots; dweight [blocks of rows, d].
// forward, backward_input: one block a row; forward four neighbours to a thread, then the four that are four times the threads further. backward_weight: common/columns.cuh.
// Bound by memory: one read of x (and dy), one write.
#include "common/columns.cuh"
#include "common/four.cuh"
#include "common/reduce.cuh"

namespace lea {

template <class TO>
__device__ __forceinline__ void rms_norm(size_t d, float eps, const float* x, const float* weight, TO* y, float* inverse) {
    x += blockIdx.x * d, y += blockIdx.x * d;
    const size_t step = 4 * blockDim.x;
    const bool whole = d % 4 == 0 && four_aligned(x) && four_aligned(weight) && four_aligned(y);
    float squares = 0.0f;
    for (size_t i = 4 * threadIdx.x; i < d; i += step) {
        if (whole) {
            const float4 four = load4(x + i);
            squares += four.x * four.x, squares += four.y * four.y, squares += four.z * four.z, squares += four.w * four.w;
        } else {
            for (size_t j = i; j < d && j < i + 4; j++) squares += x[j] * x[j];
        }
    }
    const float scale = 1.0f / sqrtf(block_sum(squares) / (float)d + eps);
    if (threadIdx.x == 0) inverse[blockIdx.x] = scale;
    for (size_t i = 4 * threadIdx.x; i < d; i += step) {
        if (whole) {
            const float4 four = load4(x + i), w = load4(weight + i);
            store_four(y + i, make_float4(four.x * scale * w.x, four.y * scale * w.y, four.z * scale * w.z, four.w * scale * w.w));
        } else {
            for (size_t j = i; j < d && j < i + 4; j++) store_one(y + j, x[j] * scale * weight[j]);
        }
    }
}

}  // namespace lea

KERNEL(256, lea_rms_norm_forward, size_t d, float eps, const float* x, const float* weight, float* y, float* inverse) {
    lea::rms_norm(d, eps, x, weight, y, inverse);
}

KERNEL(256, lea_rms_norm_forward_bf16, size_t d, float eps, const float* x, const float* weight, bf16* y, float* inverse) {
    lea::rms_norm(d, eps, x, weight, y, inverse);
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
