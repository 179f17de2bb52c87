// What a product of bf16 factors adds to its sums before it writes them.
#pragma once
#include "lea.cuh"

namespace lea {

// As bits: what c holds, the bias, the residual.
constexpr unsigned ACCUMULATE = 1, BIAS = 2, RESIDUAL = 4;

// c, residual [m, n]; bias [n]; bias and residual null where the mode lacks them.
struct Epilogue {
    unsigned mode;
    const float *bias, *residual;
    float* c;
    size_t n;
    bool pairs;  // Two neighbours, the first in an even column, may be read and written at once.

    __device__ __forceinline__ Epilogue(unsigned mode, const float* bias, const float* residual, float* c, size_t n)
        : mode(mode), bias(bias), residual(residual), c(c), n(n),
          pairs((n | reinterpret_cast<size_t>(c) / 4 | reinterpret_cast<size_t>(residual) / 4) % 2 == 0) {}

    // Ends COUNT pairs of a row, 8 columns from one to the next, so far as they are inside: `column` is even. All that one step
    // adds is read before anything waits for it.
    template <int COUNT>
    __device__ __forceinline__ void write(size_t row, size_t column, float (&sums)[COUNT][2]) const {
        const size_t first = row * n + column;
        if (mode & ACCUMULATE) add<COUNT>(sums, c + first, column, pairs);
        if (mode & BIAS) add<COUNT>(sums, bias + column, column, false);
        if (mode & RESIDUAL) add<COUNT>(sums, residual + first, column, pairs);
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            float* const to = c + first + j * 8;
            if (pairs) {
                if (column + j * 8 < n) *reinterpret_cast<float2*>(to) = make_float2(sums[j][0], sums[j][1]);
            } else {
                if (column + j * 8 < n) to[0] = sums[j][0];
                if (column + j * 8 + 1 < n) to[1] = sums[j][1];
            }
        }
    }

    template <int COUNT>
    __device__ __forceinline__ void add(float (&sums)[COUNT][2], const float* from, size_t column, bool pairs) const {
        float2 more[COUNT];
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            more[j] = make_float2(0.0f, 0.0f);
            if (pairs) {
                if (column + j * 8 < n) more[j] = *reinterpret_cast<const float2*>(from + j * 8);
            } else {
                if (column + j * 8 < n) more[j].x = from[j * 8];
                if (column + j * 8 + 1 < n) more[j].y = from[j * 8 + 1];
            }
        }
#pragma unroll
        for (int j = 0; j < COUNT; j++) sums[j][0] += more[j].x, sums[j][1] += more[j].y;
    }
};

}  // namespace lea
