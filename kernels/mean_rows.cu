// Gradient of the mean over rows: every row of dx becomes `row`; dx [rows, d], row [d]. One thread an element.
// Bound by memory: one write.
#include "common/lea.cuh"

KERNEL(256, lea_mean_rows_backward, size_t len, size_t d, const float* row, float* dx) {
    const size_t i = lea::global_thread();
    if (i < len) dx[i] = row[i % d];
}
