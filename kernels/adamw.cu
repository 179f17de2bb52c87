// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) in place, of several tensors in one launch. A thread takes every 256th
// of the BLOCK elements of its block.
//   A row of the table: grad, weights, m, v [len]; rate over the correction of the first moment, keep = 1 - lr weight decay.
//   rest1 = 1 - beta1, rest2 = 1 - beta2; second_scale 1 / the correction of the second moment;
//   scale [1] or null: one more factor on the gradient, negative for no update at all.
// Bound by memory, four reads and three writes; a model of small tensors by its launch, which is why one launch takes them all.
#include "common/table.cuh"

namespace lea {

constexpr size_t BLOCK = 1024;

struct Updated {
    const float* grad;
    float *weights, *m, *v;
    size_t len;
    float rate, keep;
    unsigned first, blocks;
};
typedef Table<Updated, 70> AdamTable;

}  // namespace lea

KERNEL(256, lea_adamw_step, TABLE(lea::AdamTable, table), float grad_scale, float beta1, float rest1, float beta2, float rest2,
       float second_scale, float eps, const float* scale) {
    const float clip = scale ? scale[0] : 1.0f;
    if (clip < 0.0f) return;
    const lea::Updated& of = table.rows[lea::row_of_block(table)];
    const size_t start = (blockIdx.x - of.first) * lea::BLOCK;
    const size_t end = start + lea::BLOCK < of.len ? start + lea::BLOCK : of.len;
    for (size_t i = start + threadIdx.x; i < end; i += blockDim.x) {
        const float g = of.grad[i] * (grad_scale * clip);
        const float first = beta1 * of.m[i] + rest1 * g;
        const float second = beta2 * of.v[i] + rest2 * g * g;
        of.m[i] = first;
        of.v[i] = second;
        of.weights[i] = of.weights[i] * of.keep - of.rate * first / (sqrtf(second * second_scale) + eps);
    }
}
