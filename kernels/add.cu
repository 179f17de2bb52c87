// Sums of tensors of one shape: a += b; a, b [len]. One thread an element. Bound by memory: two reads, one write.
#include "common/lea.cuh"

KERNEL(256, lea_add_assign, size_t len, const float* b, float* a) {
    const size_t i = lea::global_thread();
    if (i < len) a[i] += b[i];
}
