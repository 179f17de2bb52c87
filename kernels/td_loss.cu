// Temporal-difference loss: loss = (target - q)^2 / 2, dq = grad (q - target); all [len]. One thread an element.
// Bound by memory.
#include "common/lea.cuh"

KERNEL(256, lea_td_loss_forward, size_t len, const float* q, const float* targets, float* losses) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const float difference = targets[i] - q[i];
    losses[i] = 0.5f * difference * difference;
}

KERNEL(256, lea_td_loss_backward, size_t len, const float* q, const float* targets, const float* grad, float* dq) {
    const size_t i = lea::global_thread();
    if (i < len) dq[i] = grad[i] * (q[i] - targets[i]);
}
