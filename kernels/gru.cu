// A step of a gated recurrent unit for all sequences that reach it, forward and backward.
//   gates, dgates [rows, 3h] in the order r, z, n; w [3h, h]; bias [3h]; y, dy [rows, h]; rows [visits].
//   In the order of visits: history [visits, h], kept [visits, 4h] (r, z, n, hidden part of n), dhidden [visits, 3h] (gradient
//   of w previous + bias), dn [visits, h]; carry [sequences, h], what of a state's gradient passes by z.
//   Visits of a step lie together, and what goes on at a step is a prefix of those before it.
// forward, backward: one block 16 visits by 16 units; the product with w runs 16 of its depth at a time through shared memory,
// in the order of depth for every element, whatever runs beside it. input_gradient: one thread an element.
// Bound by launches and the latency of one step while few sequences run, else by arithmetic.
#include "common/math.cuh"

namespace lea {
constexpr int TILE = 16;
constexpr int PITCH = TILE + 1;
}  // namespace lea

// first: the step's first visit, running: its visits; previous: the first visit of the step before, where continued.
KERNEL(256, lea_gru_forward, size_t h, size_t first, size_t running, size_t previous, unsigned continued, size_t kept_first,
       const float* w, const unsigned* rows, const float* bias, const float* gates, float* history, float* kept, float* y) {
    using namespace lea;
    __shared__ float left[TILE][PITCH];       // [visit, depth]
    __shared__ float right[3][TILE][PITCH];   // [gate, unit, depth]
    const int across = threadIdx.x % TILE, down = threadIdx.x / TILE;
    const size_t visit = (size_t)blockIdx.y * TILE + down, unit = (size_t)blockIdx.x * TILE + across;
    const size_t depth_end = continued ? h : 0, weight_unit = (size_t)blockIdx.x * TILE + down;
    float hidden[3] = {0.0f, 0.0f, 0.0f};
    for (size_t start = 0; start < depth_end; start += TILE) {
        const size_t depth = start + across;
        left[down][across] = visit < running && depth < h ? history[(previous + visit) * h + depth] : 0.0f;
        for (int gate = 0; gate < 3; gate++)
            right[gate][down][across] = weight_unit < h && depth < h ? w[(gate * h + weight_unit) * h + depth] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++)
            for (int gate = 0; gate < 3; gate++)
                hidden[gate] = fmaf(left[down][i], right[gate][across][i], hidden[gate]);
        __syncthreads();
    }
    if (visit >= running || unit >= h) return;
    for (int gate = 0; gate < 3; gate++) hidden[gate] += bias[gate * h + unit];
    const size_t row = rows[first + visit], x = row * 3 * h + unit;
    const float r = sigmoid(gates[x] + hidden[0]);
    const float z = sigmoid(gates[x + h] + hidden[1]);
    const float n = tanhf(fmaf(r, hidden[2], gates[x + 2 * h]));
    float next = n - z * n;
    if (continued) next += z * history[(previous + visit) * h + unit];
    history[(first + visit) * h + unit] = next;
    y[row * h + unit] = next;
    const size_t cell = (kept_first + visit) * 4 * h + unit;
    kept[cell] = r;
    kept[cell + h] = z;
    kept[cell + 2 * h] = n;
    kept[cell + 3 * h] = hidden[2];
}

// later_first, later: the visits of the step after.
KERNEL(256, lea_gru_backward, size_t h, size_t first, size_t running, size_t previous, unsigned continued, size_t later_first,
       size_t later, const float* w, const unsigned* rows, const float* history, const float* kept, const float* dy,
       float* dhidden, float* dn, float* carry) {
    using namespace lea;
    __shared__ float left[TILE][PITCH];   // [visit, depth]
    __shared__ float right[TILE][PITCH];  // [depth, unit]
    const int across = threadIdx.x % TILE, down = threadIdx.x / TILE;
    const size_t visit = (size_t)blockIdx.y * TILE + down, unit = (size_t)blockIdx.x * TILE + across;
    // Sequences that end here get nothing from a step after.
    const size_t depth_end = (size_t)blockIdx.y * TILE < later ? 3 * h : 0;
    float from_later = 0.0f;
    for (size_t start = 0; start < depth_end; start += TILE) {
        left[down][across] =
            visit < later && start + across < depth_end ? dhidden[(later_first + visit) * 3 * h + start + across] : 0.0f;
        right[down][across] = unit < h && start + down < depth_end ? w[(start + down) * h + unit] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++) from_later = fmaf(left[down][i], right[i][across], from_later);
        __syncthreads();
    }
    if (visit >= running || unit >= h) return;
    float dh = dy[rows[first + visit] * h + unit];
    if (visit < later) dh += carry[visit * h + unit] + from_later;
    const size_t cell = (first + visit) * 4 * h + unit;
    const float r = kept[cell], z = kept[cell + h], n = kept[cell + 2 * h], inner = kept[cell + 3 * h];
    const float before = continued ? history[(previous + visit) * h + unit] : 0.0f;
    const float from_n = dh * (1.0f - z) * (1.0f - n * n);
    const size_t at = (first + visit) * 3 * h + unit;
    dhidden[at] = from_n * inner * r * (1.0f - r);
    dhidden[at + h] = dh * (before - n) * z * (1.0f - z);
    dhidden[at + 2 * h] = from_n * r;
    dn[(first + visit) * h + unit] = from_n;
    carry[visit * h + unit] = dh * z;
}

KERNEL(256, lea_gru_input_gradient, size_t len, size_t h, const unsigned* rows, const float* dhidden, const float* dn,
       float* dgates) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const size_t visit = i / (3 * h), column = i % (3 * h);
    dgates[rows[visit] * 3 * h + column] = column < 2 * h ? dhidden[i] : dn[visit * h + column - 2 * h];
}
