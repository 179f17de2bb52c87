// Softmax cross-entropy of rows against one target each, loss = log sum exp(scale x) - scale x[target], over the columns that a
// mask leaves, and its gradient; no probabilities are stored.
//   x, dx, mask [rows, columns], mask null where all columns count; targets, losses, log_sums, grad [rows].
// One block a row. Bound by memory: two reads of x (the second from cache where a row fits it), one write.
#include "common/reduce.cuh"

KERNEL(256, lea_cross_entropy_forward, size_t columns, float scale, const float* x, const unsigned* targets,
       const unsigned* mask, float* losses, float* log_sums) {
    const size_t first = blockIdx.x * columns;
    const float lowest = -3.4028234e38f;
    float highest = lowest;
    for (size_t i = first + threadIdx.x; i < first + columns; i += blockDim.x)
        if (!mask || mask[i]) highest = fmaxf(highest, x[i]);
    highest = lea::block_max(highest);
    float partial = 0.0f;
    for (size_t i = first + threadIdx.x; i < first + columns; i += blockDim.x)
        if (!mask || mask[i]) partial += expf(scale * (x[i] - highest));
    const float sum = lea::block_sum(partial);
    if (threadIdx.x != 0) return;
    const float over = logf(sum);
    const size_t target = targets[blockIdx.x];
    // A target that is no column that counts, which only another kernel can have made, gives NaN.
    float loss = __uint_as_float(0x7fc00000u);
    if (target < columns && (!mask || mask[first + target])) loss = over + scale * (highest - x[first + target]);
    losses[blockIdx.x] = loss;
    log_sums[blockIdx.x] = over + lea::product(highest, scale);
}

// dx = grad scale (softmax - [column = target]).
KERNEL(256, lea_cross_entropy_backward, size_t columns, float scale, const float* x, const unsigned* targets,
       const unsigned* mask, const float* log_sums, const float* grad, float* dx) {
    const size_t first = blockIdx.x * columns;
    const float factor = grad[blockIdx.x] * scale, log_sum = log_sums[blockIdx.x];
    const size_t target = targets[blockIdx.x];
    for (size_t i = threadIdx.x; i < columns; i += blockDim.x) {
        float d = 0.0f;
        if (!mask || mask[first + i]) d = expf(fmaf(x[first + i], scale, -log_sum)) * factor;
        if (i == target) d -= factor;
        dx[first + i] = d;
    }
}
