// Work on several tensors in one launch: what is to be known of each stands in a table, which is a parameter of the kernel. Rows have,
// behind their own, `first` and `blocks`: which blocks of threads belong to the row. They follow one another; a row may have none.
#pragma once

#include "lea.cuh"

#ifdef LEA_HOST
#define TABLE(type, name) const type name
#else
#define TABLE(type, name) const __grid_constant__ type name
#endif

namespace lea {

// All parameters of a kernel have 4096 bytes together.
template <class ROW, int ROWS>
struct Table {
    ROW rows[ROWS];
    size_t count;
};

// The row to which this block belongs: the last one that begins at it or before.
template <class ROW, int ROWS>
__device__ __forceinline__ unsigned row_of_block(const Table<ROW, ROWS>& table) {
    unsigned low = 0, high = (unsigned)table.count;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        if (table.rows[middle].first <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace lea
