// What a product of bf16 factors does with its sums before it writes them.
#pragma once
#include "math.cuh"

namespace lea {

// As bits: what is added (what c holds, the bias, the residual), the gate of a SwiGLU that the sum is the other half of, and that c is
// in bf16.
constexpr unsigned ACCUMULATE = 1, BIAS = 2, RESIDUAL = 4, GATE = 8, HALF = 16;

// c [m, n] f32, or bf16 where the mode says so, and then without ACCUMULATE; beside [m, n] f32, the residual or the gate; bias [n].
// Bias and beside are null where the mode lacks them.
struct Epilogue {
    unsigned mode;
    const float *bias, *beside;
    void* c;
    size_t n;
    bool pairs;  // Two neighbours, the first in an even column, may be read and written at once.

    __device__ __forceinline__ Epilogue(unsigned mode, const float* bias, const float* beside, void* c, size_t n)
        : mode(mode), bias(bias), beside(beside), c(c), n(n),
          pairs((n | reinterpret_cast<size_t>(c) / (mode & HALF ? 2 : 4) | reinterpret_cast<size_t>(beside) / 4) % 2 == 0) {}

    // Ends COUNT pairs of a row, 8 columns from one to the next, so far as they are inside: `column` is even. All that one step
    // takes is read before anything waits for it.
    template <int COUNT>
    __device__ __forceinline__ void write(size_t row, size_t column, float (&sums)[COUNT][2]) const {
        const size_t first = row * n + column;
        // Columns from here on, as far as they matter.
        const int left = column < n ? (int)min(n - column, (size_t)(COUNT * 8)) : 0;
        if (mode & ACCUMULATE) add<COUNT>(sums, static_cast<const float*>(c) + first, left, pairs);
        if (mode & BIAS) add<COUNT>(sums, bias + column, left, false);
        if (mode & RESIDUAL) add<COUNT>(sums, beside + first, left, pairs);
        if (mode & GATE) multiply<COUNT>(sums, beside + first, left);
        if (mode & HALF) store<COUNT>(sums, static_cast<bf16*>(c) + first, left);
        else store<COUNT>(sums, static_cast<float*>(c) + first, left);
    }

    template <int COUNT>
    __device__ __forceinline__ void read(float2 (&more)[COUNT], const float* from, int left, bool pairs) const {
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            more[j] = make_float2(0.0f, 0.0f);
            if (pairs) {
                if (j * 8 < left) more[j] = load_word<float2>(from + j * 8);
            } else {
                if (j * 8 < left) more[j].x = from[j * 8];
                if (j * 8 + 1 < left) more[j].y = from[j * 8 + 1];
            }
        }
    }

    template <int COUNT>
    __device__ __forceinline__ void add(float (&sums)[COUNT][2], const float* from, int left, bool pairs) const {
        float2 more[COUNT];
        read<COUNT>(more, from, left, pairs);
#pragma unroll
        for (int j = 0; j < COUNT; j++) sums[j][0] += more[j].x, sums[j][1] += more[j].y;
    }

    template <int COUNT>
    __device__ __forceinline__ void multiply(float (&sums)[COUNT][2], const float* gate, int left) const {
        float2 gates[COUNT];
        read<COUNT>(gates, gate, left, pairs);
#pragma unroll
        for (int j = 0; j < COUNT; j++)
            sums[j][0] = swiglu(gates[j].x, sums[j][0]), sums[j][1] = swiglu(gates[j].y, sums[j][1]);
    }

    template <int COUNT, class T>
    __device__ __forceinline__ void store(const float (&sums)[COUNT][2], T* to, int left) const {
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            if (pairs) {
                if (j * 8 < left) store_pair(to + j * 8, sums[j][0], sums[j][1]);
            } else {
                if (j * 8 < left) store_one(to + j * 8, sums[j][0]);
                if (j * 8 + 1 < left) store_one(to + j * 8 + 1, sums[j][1]);
            }
        }
    }
};

}  // namespace lea
