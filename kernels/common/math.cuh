// Functions whose plain forms lose accuracy or overflow: the logistic function, its logarithm.
#pragma once
#include "lea.cuh"

namespace lea {

// 1 / (1 + e^-x), without overflow.
__device__ __forceinline__ float sigmoid(float x) {
    const float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

// gate sigma(gate) up. Without a division: it ends products, whose tensor cores wait for it.
__device__ __forceinline__ float swiglu(float gate, float up) {
    const float e = expf(-fabsf(gate));
    return gate * ((gate >= 0.0f ? 1.0f : e) * reciprocal(1.0f + e)) * up;
}

// log sigma(x), without overflow.
__device__ __forceinline__ float log_sigmoid(float x) { return fminf(x, 0.0f) - log1pf(expf(-fabsf(x))); }

}  // namespace lea
