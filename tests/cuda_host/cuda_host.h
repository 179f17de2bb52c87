// What kernels/common/lea.cuh includes instead of CUDA's headers when the kernels are compiled for the CPU: CUDA C++'s words,
// and the operations behind lea.cuh's names, done by the engine (engine.h) that runs every thread of a block as a fiber.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "engine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
// One a block: the threads of a block are fibers of one thread of the system. Filled with NaN before each block.
#define __shared__ static thread_local
#define __syncthreads() cuda_host::barrier(__FILE__, __LINE__)

#define threadIdx (cuda_host::current()->thread)
#define blockIdx (cuda_host::current()->block)
#define blockDim (cuda_host::current()->block_dim)
#define gridDim (cuda_host::current()->grid_dim)

#define KERNEL(threads, name, ...)                                                                  \
    extern "C" void name(__VA_ARGS__);                                                              \
    static const cuda_host::Registration name##_registration(#name, threads, &name);                \
    extern "C" void name(__VA_ARGS__)
#define DYNAMIC_SHARED(name) unsigned char* const name = cuda_host::dynamic_shared()

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct bf16 { uint16_t bits; };

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline size_t min(size_t a, size_t b) { return a < b ? a : b; }
inline size_t max(size_t a, size_t b) { return a > b ? a : b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
inline int __float_as_int(float x) { int bits; memcpy(&bits, &x, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
inline float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }

namespace lea {

constexpr unsigned ALL_LANES = 0xffffffffu;

// A lane's part in a shuffle: what it gives, whose value it takes, and what it gets.
struct Shuffle { unsigned given, from, taken; };

inline void shuffle_warp(void* const* lanes) {
    for (int lane = 0; lane < 32; lane++) {
        Shuffle* mine = (Shuffle*)lanes[lane];
        mine->taken = ((Shuffle*)lanes[mine->from % 32])->given;
    }
}
inline unsigned shuffle(unsigned value, int lane) {
    Shuffle mine{value, (unsigned)lane, 0};
    cuda_host::warp("shuffle", &mine, shuffle_warp);
    return mine.taken;
}
inline float shuffle(float value, int lane) { return __uint_as_float(shuffle(__float_as_uint(value), lane)); }
inline unsigned shuffle_xor(unsigned value, int mask) { return shuffle(value, (int)(threadIdx.x % 32) ^ mask); }
inline float shuffle_xor(float value, int mask) { return shuffle(value, (int)(threadIdx.x % 32) ^ mask); }

inline void ballot_warp(void* const* lanes) {
    unsigned bits = 0;
    for (int lane = 0; lane < 32; lane++) bits |= (((Shuffle*)lanes[lane])->given & 1u) << lane;
    for (int lane = 0; lane < 32; lane++) ((Shuffle*)lanes[lane])->taken = bits;
}
inline unsigned ballot(bool condition) {
    Shuffle mine{condition ? 1u : 0u, 0, 0};
    cuda_host::warp("ballot", &mine, ballot_warp);
    return mine.taken;
}

inline float product(float a, float b) {
    volatile float rounded = a * b;
    return rounded;
}

inline float reciprocal(float x) { return 1.0f / x; }

inline unsigned count_up(unsigned* counter) { return __atomic_fetch_add(counter, 1u, __ATOMIC_RELAXED); }

inline float to_float(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
inline bf16 to_bf16(float x) {
    unsigned bits = __float_as_uint(x);
    if (std::isnan(x)) return {(uint16_t)0x7fff};
    return {(uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

inline unsigned pack_bf16(float low, float high) { return to_bf16(low).bits | (unsigned)to_bf16(high).bits << 16; }

inline float4 load4(const float* from) {
    cuda_host::expect_aligned(from, 16);
    return *(const float4*)from;
}
template <class WORD>
inline WORD load_word(const void* from) {
    cuda_host::expect_aligned(from, sizeof(WORD));
    return *(const WORD*)from;
}
template <class WORD>
inline void store_word(void* to, WORD value) {
    cuda_host::expect_aligned(to, sizeof(WORD));
    *(WORD*)to = value;
}
inline void store4(float* to, float4 value) {
    cuda_host::expect_aligned(to, 16);
    *(float4*)to = value;
}

}  // namespace lea
