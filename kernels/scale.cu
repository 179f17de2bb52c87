// y = factor x; x, y [len]. One thread an element. Bound by memory: one read, one write.
#include "common/lea.cuh"

KERNEL(256, lea_scale_forward, size_t len, float factor, const float* x, float* y) {
    const size_t i = lea::global_thread();
    if (i < len) y[i] = factor * x[i];
}
