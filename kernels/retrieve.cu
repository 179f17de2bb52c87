// Takes excluded ids out of the scores of a search: scores[place] = NaN, which selection never finds.
//   scores [rows, v]; places [count], each row * v + id.
// One thread a place. Bound by memory.
#include "common/lea.cuh"

KERNEL(256, lea_retrieve_exclude, size_t count, const unsigned* places, float* scores) {
    const size_t i = lea::global_thread();
    if (i < count) scores[places[i]] = __uint_as_float(0x7fc00000u);
}
