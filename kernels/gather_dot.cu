// Dot products with chosen rows of a table: y = x . table[id] + bias[id], and their gradients.
//   x, dx [n, d]; ids, y, dy [n, k]; table, dtable [v, d]; bias, dbias [v], bias null where there is none.
//   starts [v + 1], positions [n k]: for every row of the table the places whose id it is, ascending.
// forward: a warp a product. The others: one thread an element of the result.
// Bound by memory: every chosen row is read once a choice.
#include "common/lea.cuh"

KERNEL(256, lea_gather_dot_forward, size_t places, size_t k, size_t d, size_t v, const float* x, const float* table,
       const float* bias, const unsigned* ids, float* y) {
    const size_t place = lea::global_thread() / lea::WARP;
    const unsigned lane = threadIdx.x % lea::WARP;
    if (place >= places) return;
    const size_t id = ids[place];
    float sum = 0.0f;
    if (id < v) {
        const float* row = x + place / k * d;
        for (size_t c = lane; c < d; c += lea::WARP) sum = fmaf(row[c], table[id * d + c], sum);
    }
    sum = lea::warp_sum(sum);
    if (lane != 0) return;
    if (id >= v) sum = __uint_as_float(0x7fc00000u);  // Only another kernel can have made such an id.
    else if (bias) sum += bias[id];
    y[place] = sum;
}

KERNEL(256, lea_gather_dot_backward_x, size_t len, size_t k, size_t d, size_t v, const float* table, const unsigned* ids,
       const float* dy, float* dx) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const size_t row = i / d, column = i % d;
    float sum = 0.0f;
    for (size_t place = row * k; place < (row + 1) * k; place++) {
        const size_t id = ids[place];
        if (id < v) sum = fmaf(dy[place], table[id * d + column], sum);
    }
    dx[i] = sum;
}

KERNEL(256, lea_gather_dot_backward_table, size_t len, size_t k, size_t d, const unsigned* starts, const unsigned* positions,
       const float* x, const float* dy, float* dtable) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const size_t row = i / d, column = i % d;
    float sum = 0.0f;
    for (unsigned at = starts[row]; at < starts[row + 1]; at++) {
        const size_t place = positions[at];
        sum = fmaf(dy[place], x[place / k * d + column], sum);
    }
    dtable[i] = sum;
}

KERNEL(256, lea_gather_dot_backward_bias, size_t v, const unsigned* starts, const unsigned* positions, const float* dy,
       float* dbias) {
    const size_t row = lea::global_thread();
    if (row >= v) return;
    float sum = 0.0f;
    for (unsigned at = starts[row]; at < starts[row + 1]; at++) sum += dy[positions[at]];
    dbias[row] = sum;
}
