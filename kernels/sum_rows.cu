// Sum of the rows of a matrix: y[j] = sum_i x[i, j], in the blocks of common/columns.cuh.
//   x [rows, columns]; y [blocks of rows, columns].
// Bound by memory: one read of x.
#include "common/columns.cuh"

KERNEL(256, lea_sum_rows_forward, const float* x, size_t rows, size_t columns, float* y) {
    lea::column_sums(rows, columns, y, [=](size_t row, size_t column) { return x[row * columns + column]; });
}
