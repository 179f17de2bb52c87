// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) in place; all [len]. One thread an element.
//   rest1 = 1 - beta1, rest2 = 1 - beta2; rate over the correction of the first moment, second_scale 1 / that of the second;
//   keep = 1 - lr weight decay; scale [1] or null: one more factor on the gradient, negative for no update at all.
// Bound by memory: four reads, three writes.
#include "common/lea.cuh"

KERNEL(256, lea_adamw_step, size_t len, float grad_scale, float beta1, float rest1, float beta2, float rest2, float rate,
       float second_scale, float eps, float keep, const float* scale, const float* grad, float* weights, float* m, float* v) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const float clip = scale ? scale[0] : 1.0f;
    if (clip < 0.0f) return;
    const float g = grad[i] * (grad_scale * clip);
    const float first = beta1 * m[i] + rest1 * g;
    const float second = beta2 * v[i] + rest2 * g * g;
    m[i] = first;
    v[i] = second;
    weights[i] = weights[i] * keep - rate * first / (sqrtf(second * second_scale) + eps);
}
