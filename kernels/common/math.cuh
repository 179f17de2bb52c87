// Functions whose plain forms lose accuracy or overflow: the logistic function, its logarithm.
#pragma once
#include "lea.cuh"

namespace lea {

// 1 / (1 + e^-x), without overflow.
__device__ __forceinline__ float sigmoid(float x) {
    const float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

// The gate's silu times up.
__device__ __forceinline__ float swiglu(float gate, float up) { return gate * sigmoid(gate) * up; }

// log sigma(x), without overflow.
__device__ __forceinline__ float log_sigmoid(float x) { return fminf(x, 0.0f) - log1pf(expf(-fabsf(x))); }

}  // namespace lea
