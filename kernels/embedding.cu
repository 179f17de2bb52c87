// Rows of a table by id, y = table[id], and the transpose: rows of dy summed up by id.
//   ids [n]; table, dtable [count, d]: rows first .. first + count of `total`; y, dy [n, d].
//   starts [total + 1], positions [n]: for every row of the table the positions whose id it is, ascending.
// One thread an element, neighbours beside each other in a row. Bound by memory: the rows once in, once out.
#include "common/lea.cuh"

// Tables laid one after another are gathered by one launch each: a launch writes only what is its table's own. Ids beyond all
// of them, which only another kernel can have made, give NaN.
KERNEL(256, lea_embedding_gather, size_t len, size_t d, size_t first, size_t count, size_t total, const unsigned* ids,
       const float* table, float* y) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const size_t id = ids[i / d];
    if (id >= total) {
        y[i] = __uint_as_float(0x7fc00000u);
    } else if (id >= first && id - first < count) {
        y[i] = table[(id - first) * d + i % d];
    }
}

KERNEL(256, lea_embedding_scatter, size_t len, size_t d, size_t first, const unsigned* starts, const unsigned* positions,
       const float* dy, float* dtable) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const size_t row = first + i / d, column = i % d;
    float sum = 0.0f;
    for (unsigned place = starts[row]; place < starts[row + 1]; place++) sum += dy[positions[place] * d + column];
    dtable[i] = sum;
}
