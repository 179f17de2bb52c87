// Sums and maxima over the threads of a block, whose number is a multiple of 32. The order depends on the number of threads
// alone. All threads must call, and all get the result.
#pragma once
#include "lea.cuh"

namespace lea {

template <class Combine>
__device__ __forceinline__ float block_reduce(float of_warp, Combine combine) {
    __shared__ float slots[WARP];
    const int warp = threadIdx.x / WARP;
    if (threadIdx.x % WARP == 0) slots[warp] = of_warp;
    __syncthreads();
    float result = slots[0];
    for (int i = 1; i < (int)blockDim.x / WARP; i++) result = combine(result, slots[i]);
    __syncthreads();  // The next call writes the slots again.
    return result;
}

__device__ __forceinline__ float block_sum(float value) {
    return block_reduce(warp_sum(value), [](float a, float b) { return a + b; });
}

__device__ __forceinline__ float block_max(float value) {
    return block_reduce(warp_max(value), [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace lea
