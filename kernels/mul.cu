// y = a b, element by element; all [len]. One thread an element. Bound by memory: two reads, one write.
#include "common/lea.cuh"

KERNEL(256, lea_mul_forward, size_t len, const float* a, const float* b, float* y) {
    const size_t i = lea::global_thread();
    if (i < len) y[i] = a[i] * b[i];
}
