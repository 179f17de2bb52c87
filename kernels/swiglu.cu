// SwiGLU: y = gate sigma(gate) up, and its gradients; all [len]. Forward one thread four elements, y in f32 or bf16; backward one thread an element.
// Bound by memory: two reads and one write; backward three and two.
#include "common/four.cuh"
#include "common/math.cuh"

KERNEL(256, lea_swiglu_forward, size_t len, const float* gate, const float* up, float* y) {
    lea::map_four(len, y, lea::swiglu, gate, up);
}

KERNEL(256, lea_swiglu_forward_bf16, size_t len, const float* gate, const float* up, bf16* y) {
    lea::map_four(len, y, lea::swiglu, gate, up);
}

KERNEL(256, lea_swiglu_backward, size_t len, const float* gate, const float* up, const float* dy, float* dgate, float* dup) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const float g = gate[i];
    const float s = lea::sigmoid(g);
    dup[i] = dy[i] * g * s;
    dgate[i] = dy[i] * up[i] * s * (1.0f + g * (1.0f - s));
}
