// Sums over a whole tensor, block of BLOCK elements by block; passes over the sums of blocks follow until one is left. The order
// depends on the length alone.
//   x, weights [len]; sums [blocks].
// sum: x; dot: weights x; squares: x^2, each times `factor`. One block of threads a block.
//   spread: dx = factor grad; dx [len], grad [1]. spread_weights: dx = grad weights. One thread an element.
// Bound by memory.
#include "common/reduce.cuh"

namespace lea {

constexpr size_t BLOCK = 4096;

template <class Element>
__device__ __forceinline__ void sum_block(size_t len, float factor, float* sums, Element element) {
    const size_t start = blockIdx.x * BLOCK;
    const size_t end = start + BLOCK < len ? start + BLOCK : len;
    float total = 0.0f;
    for (size_t i = start + threadIdx.x; i < end; i += blockDim.x) total += element(i);
    total = block_sum(total);
    if (threadIdx.x == 0) sums[blockIdx.x] = factor * total;
}

}  // namespace lea

KERNEL(256, lea_reduce_sum, size_t len, float factor, const float* x, float* sums) {
    lea::sum_block(len, factor, sums, [=](size_t i) { return x[i]; });
}

KERNEL(256, lea_reduce_squares, size_t len, float factor, const float* x, float* sums) {
    lea::sum_block(len, factor, sums, [=](size_t i) { return x[i] * x[i]; });
}

KERNEL(256, lea_reduce_dot, size_t len, float factor, const float* x, const float* weights, float* sums) {
    lea::sum_block(len, factor, sums, [=](size_t i) { return weights[i] * x[i]; });
}

KERNEL(256, lea_reduce_spread, size_t len, float factor, const float* grad, float* dx) {
    const size_t i = lea::global_thread();
    if (i < len) dx[i] = factor * grad[0];
}

KERNEL(256, lea_reduce_spread_weights, size_t len, const float* grad, const float* weights, float* dx) {
    const size_t i = lea::global_thread();
    if (i < len) dx[i] = grad[0] * weights[i];
}
