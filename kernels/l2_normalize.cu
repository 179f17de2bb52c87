// Rows of length 1: y = x / max(|x|, eps), and its gradient.
//   x, y, dy, dx [rows, d]; inverse [rows], the reciprocal divisors; most = 1 / eps.
// One block a row. Bound by memory: one read of x (and dy), one write.
#include "common/reduce.cuh"

KERNEL(256, lea_l2_normalize_forward, size_t d, float eps, float most, const float* x, float* y, float* inverse) {
    const size_t first = blockIdx.x * d;
    float squares = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) squares += x[first + i] * x[first + i];
    const float length = sqrtf(lea::block_sum(squares));
    const float scale = length >= eps ? 1.0f / length : most;
    if (threadIdx.x == 0) inverse[blockIdx.x] = scale;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) y[first + i] = x[first + i] * scale;
}

// dx = (dy - y (y . dy)) / |x|; a row shorter than eps was divided by a constant.
KERNEL(256, lea_l2_normalize_backward, size_t d, float most, const float* y, const float* inverse, const float* dy,
       float* dx) {
    const size_t first = blockIdx.x * d;
    float products = 0.0f;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) products += y[first + i] * dy[first + i];
    const float sum = lea::block_sum(products), scale = inverse[blockIdx.x];
    const float along = scale >= most ? 0.0f : sum;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x) dx[first + i] = scale * (dy[first + i] - y[first + i] * along);
}
