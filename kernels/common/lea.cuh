// What every kernel starts with: its declaration, shared memory, and the warp's own operations behind names of ours. The
// same files compile with nvcc to PTX and with g++ for the tests that run kernels on the CPU (tests/cuda_host).
#pragma once

#ifdef LEA_HOST
#include "cuda_host.h"
#else

#include <cuda_bf16.h>

// A kernel of at most `threads` threads a block, under its stable name.
#define KERNEL(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
// The launch's dynamic shared memory.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

typedef __nv_bfloat16 bf16;

namespace lea {

constexpr unsigned ALL_LANES = 0xffffffffu;

// The value of the lane whose number differs in the bits of `mask`.
__device__ __forceinline__ float shuffle_xor(float value, int mask) {
    return __shfl_xor_sync(ALL_LANES, value, mask);
}
__device__ __forceinline__ unsigned shuffle_xor(unsigned value, int mask) {
    return __shfl_xor_sync(ALL_LANES, value, mask);
}
// The value of lane `lane`.
__device__ __forceinline__ float shuffle(float value, int lane) { return __shfl_sync(ALL_LANES, value, lane); }
__device__ __forceinline__ unsigned shuffle(unsigned value, int lane) { return __shfl_sync(ALL_LANES, value, lane); }
// One bit a lane: whether its condition holds.
__device__ __forceinline__ unsigned ballot(bool condition) { return __ballot_sync(ALL_LANES, condition); }

// A product that no compiler fuses with what is added to it: for differences of equal terms, which must be 0.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }

// 1 / x of a normal x with a normal result, off by at most one unit in the last place: an instruction, where a division is ten.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Counts up by one beside other threads; what stood there before. For integers alone: an order of sums that changes from run
// to run would change the bits of a float.
__device__ __forceinline__ unsigned count_up(unsigned* counter) { return atomicAdd(counter, 1u); }

__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ bf16 to_bf16(float x) { return __float2bfloat16_rn(x); }

// Two floats, rounded to nearest: `low` in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// Four elements from an address that is a multiple of their bytes.
__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ __forceinline__ void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }
// A word of up to 16 bytes at a multiple of its size.
template <class WORD>
__device__ __forceinline__ WORD load_word(const void* from) {
    return *static_cast<const WORD*>(from);
}
template <class WORD>
__device__ __forceinline__ void store_word(void* to, WORD value) {
    *static_cast<WORD*>(to) = value;
}

}  // namespace lea

#endif

namespace lea {

constexpr int WARP = 32;

__device__ __forceinline__ float to_float(float x) { return x; }

// One element, or two neighbours at a multiple of their bytes, stored in the type of `to`: bf16 rounded to nearest.
__device__ __forceinline__ void store_one(float* to, float x) { *to = x; }
__device__ __forceinline__ void store_one(bf16* to, float x) { *to = to_bf16(x); }
__device__ __forceinline__ void store_pair(float* to, float x, float y) { store_word(to, make_float2(x, y)); }
__device__ __forceinline__ void store_pair(bf16* to, float x, float y) { store_word(to, pack_bf16(x, y)); }
// Four neighbours, likewise.
__device__ __forceinline__ void store_four(float* to, float4 x) { store4(to, x); }
__device__ __forceinline__ void store_four(bf16* to, float4 x) { store_word(to, make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w))); }

// Sum over the lanes of a warp, in the order of a butterfly; every lane gets it.
__device__ __forceinline__ float warp_sum(float value) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
    return value;
}

// Place of this thread among those of the grid's first direction.
__device__ __forceinline__ size_t global_thread() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }

}  // namespace lea
