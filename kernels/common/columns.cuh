// Sums over the rows of a matrix, column by column: a block of threads takes COLUMNS columns of a block of ROW_BLOCK rows,
// ROW_LANES threads a column. Each adds every ROW_LANES-th row in order; their sums are added in the order of the lanes. So
// the order depends on the number of rows alone, and reads of a row are coalesced.
// Grid: (ceil(columns / COLUMNS), blocks of rows). sums [blocks of rows, columns].
#pragma once
#include "lea.cuh"

namespace lea {

constexpr int ROW_BLOCK = 256;
constexpr int COLUMNS = 32;
constexpr int ROW_LANES = 8;

// `element(row, column)` is what is summed.
template <class Element>
__device__ __forceinline__ void column_sums(size_t rows, size_t columns, float* sums, Element element) {
    __shared__ float slots[COLUMNS * ROW_LANES];
    const size_t block = blockIdx.y;
    const size_t column = (size_t)blockIdx.x * COLUMNS + threadIdx.x % COLUMNS;
    const size_t end = (block + 1) * ROW_BLOCK < rows ? (block + 1) * ROW_BLOCK : rows;
    float sum = 0.0f;
    if (column < columns) {
        for (size_t row = block * ROW_BLOCK + threadIdx.x / COLUMNS; row < end; row += ROW_LANES)
            sum += element(row, column);
    }
    slots[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < COLUMNS && column < columns) {
        for (int lane = 1; lane < ROW_LANES; lane++) sum += slots[lane * COLUMNS + threadIdx.x];
        sums[block * columns + column] = sum;
    }
}

}  // namespace lea
