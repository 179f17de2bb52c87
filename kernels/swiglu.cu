// SwiGLU: y = gate sigma(gate) up, and its gradients; all [len]. One thread an element.
// Bound by memory: two reads and one write; backward three and two.
#include "common/math.cuh"

KERNEL(256, lea_swiglu_forward, size_t len, const float* gate, const float* up, float* y) {
    const size_t i = lea::global_thread();
    if (i < len) y[i] = gate[i] * lea::sigmoid(gate[i]) * up[i];
}

KERNEL(256, lea_swiglu_backward, size_t len, const float* gate, const float* up, const float* dy, float* dgate, float* dup) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const float g = gate[i];
    const float s = lea::sigmoid(g);
    dup[i] = dy[i] * g * s;
    dgate[i] = dy[i] * up[i] * s * (1.0f + g * (1.0f - s));
}
