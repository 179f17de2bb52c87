// Rows of a table by id, y = table[id], and the transpose: rows of dy summed up by id.
//   ids [n]; table, dtable [count, d]: rows first .. first + count of `total`; y, dy [n, d]; f32, of table and y also bf16.
//   starts [total + 1], positions [n]: for every row of the table the positions whose id it is, ascending.
// One thread a word or an element, neighbours beside each other in a row. Bound by memory: the rows once in, once out.
#include "common/lea.cuh"

// Tables laid one after another are gathered by one launch each: a launch writes only what is its table's own. Ids beyond all
// of them, which only another kernel can have made, give NaN.
// Rows are copied in words, of 16 bytes where they are multiples of that and of 4 else: `len` and d count them.
namespace lea {

template <class WORD>
__device__ __forceinline__ void gather(size_t len, size_t d, size_t first, size_t count, size_t total, const unsigned* ids,
                                       const WORD* table, WORD* y, WORD missing) {
    const size_t i = global_thread();
    if (i >= len) return;
    const size_t id = ids[i / d];
    if (id >= total) {
        y[i] = missing;
    } else if (id >= first && id - first < count) {
        y[i] = table[(id - first) * d + i % d];
    }
}

// NaN as an element of f32, and as two of bf16.
constexpr unsigned MISSING = 0x7fc07fc0u;

}  // namespace lea

KERNEL(256, lea_embedding_gather, size_t len, size_t d, size_t first, size_t count, size_t total, const unsigned* ids,
       const unsigned* table, unsigned* y) {
    lea::gather(len, d, first, count, total, ids, table, y, lea::MISSING);
}

KERNEL(256, lea_embedding_gather_wide, size_t len, size_t d, size_t first, size_t count, size_t total, const unsigned* ids,
       const uint4* table, uint4* y) {
    const uint4 missing = make_uint4(lea::MISSING, lea::MISSING, lea::MISSING, lea::MISSING);
    lea::gather(len, d, first, count, total, ids, table, y, missing);
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
