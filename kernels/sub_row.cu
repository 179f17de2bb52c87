// A row taken from every row: y = x - row; x, y [rows, d], row [d]. One thread an element. Bound by memory: one read, one write.
#include "common/lea.cuh"

KERNEL(256, lea_sub_row_forward, size_t len, size_t d, const float* row, const float* x, float* y) {
    const size_t i = lea::global_thread();
    if (i < len) y[i] = x[i] - row[i % d];
}
