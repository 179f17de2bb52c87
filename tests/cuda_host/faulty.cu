// In place of kernels/scale.cu: y = factor x, right as it stands, and with CUDA_HOST_FAULT set wrong in one way. Each way must
// be reported (tests/cuda/faults.rs).
#include "common/lea.cuh"

using cuda_host::fault;

KERNEL(256, lea_scale_forward, size_t len, float factor, const float* x, float* y) {
    __shared__ float slots[256];
    DYNAMIC_SHARED(dynamic);
    const size_t i = lea::global_thread();
    const unsigned lane = threadIdx.x % 32;
    if (fault(1)) {
        if (threadIdx.x < 100) __syncthreads();
        else
            __syncthreads();
    }
    if (fault(2)) {
        if (threadIdx.x == 0) __syncthreads();
        else
            lea::shuffle(factor, 0);
    }
    if (fault(3) && lane < 5) lea::shuffle(factor, 0);
    if (fault(4)) {
        if (lane < 5) lea::shuffle(factor, 0);
        else
            lea::ballot(true);
    }
    if (fault(5)) lea::load4(x + 1);
    if (fault(6)) lea::store4(y + 1, make_float4(0, 0, 0, 0));
    if (fault(7)) factor = x[len + 4];
    if (fault(8)) y[len + 4] = factor;
    if (fault(9)) factor = ((volatile const float*)x)[-2048];
    if (fault(10)) y[-1] = factor;
    if (fault(11)) y[len] = factor;
    if (fault(12)) factor = ((volatile float*)dynamic)[0];
    if (fault(13)) dynamic[0] = 1;
    if (fault(14)) factor = slots[threadIdx.x + 255];
    if (fault(15)) slots[threadIdx.x + 255] = factor;
    if (fault(16)) factor = *(const float*)((size_t)(x) & 1);
    if (fault(17)) cuda_host::copy_async(slots + 1, x, 16, 16);
    if (fault(18)) {
        if (threadIdx.x == 0) cuda_host::copy_async(slots, x, 4, 4);
        cuda_host::copy_commit();
    }
    if (fault(19)) factor = slots[threadIdx.x];
    // A neighbour's value, and the barrier before it missing: this way, and that way round.
    slots[threadIdx.x] = factor;
    if (!fault(20) && !fault(21)) __syncthreads();
    factor = slots[fault(21) ? (threadIdx.x + 255) % 256 : (threadIdx.x + 1) % 256];
    for (size_t j = 4 * i; j < len && j < 4 * i + 4; j++)
        if (!fault(22)) y[j] = factor * x[j];
}
