// Activation functions and their slopes: y = f(x), dx = f'(x) dy; all [len]. One thread four elements; `function` says which:
// 0 ReLU, 1 GELU, 2 GELU by tanh, 3 SiLU, 4 sigmoid, 5 tanh. Bound by memory.
#include "common/four.cuh"
#include "common/math.cuh"

namespace lea {

constexpr float GELU_SCALE = 1.5957691f;  // 2 sqrt(2 / pi)
constexpr float GELU_CUBE = 0.044715f;
constexpr float DENSITY = 0.3989423f;     // 1 / sqrt(2 pi)
constexpr float ROOT_HALF = 0.70710678f;

// The normal distribution function.
__device__ __forceinline__ float normal(float x) { return 0.5f * erfcf(-x * ROOT_HALF); }

// 2u with u = sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh u) / 2 = sigma(2u).
__device__ __forceinline__ float twice_gelu_argument(float x) { return GELU_SCALE * x * (1.0f + GELU_CUBE * x * x); }

__device__ __forceinline__ float value(unsigned function, float x) {
    switch (function) {
        case 0: return x < 0.0f ? 0.0f : x;  // NaN stays NaN.
        case 1: return x * normal(x);
        case 2: return x * sigmoid(twice_gelu_argument(x));
        case 3: return x * sigmoid(x);
        case 4: return sigmoid(x);
        default: return tanhf(x);
    }
}

__device__ __forceinline__ float slope(unsigned function, float x) {
    switch (function) {
        case 0: return x > 0.0f ? 1.0f : 0.0f;
        case 1: return normal(x) + x * expf(-0.5f * fminf(x * x, 1000.0f)) * DENSITY;
        case 2: {
            const float s = sigmoid(twice_gelu_argument(x));
            return s + x * s * (1.0f - s) * GELU_SCALE * (1.0f + 3.0f * GELU_CUBE * x * x);
        }
        case 3: {
            const float s = sigmoid(x);
            return s * (1.0f + x * (1.0f - s));
        }
        case 4: return sigmoid(x) * sigmoid(-x);  // 1 - sigma would cancel.
        default: {
            const float e = expf(-2.0f * fabsf(x));  // 1 - tanh^2 would cancel.
            return 4.0f * e / ((1.0f + e) * (1.0f + e));
        }
    }
}

}  // namespace lea

KERNEL(256, lea_activation_forward, size_t len, unsigned function, const float* x, float* y) {
    lea::map_four(len, y, [=](float x) { return lea::value(function, x); }, x);
}

KERNEL(256, lea_activation_backward, size_t len, unsigned function, const float* x, const float* dy, float* dx) {
    lea::map_four(len, dx, [=](float x, float dy) { return lea::slope(function, x) * dy; }, x, dy);
}
