// Forest attention in f32: out = softmax(scale q k^T) v, where a query row sees up to four ranges of keys, and its gradients.
//   q, out, dout, dq [rows, heads hd]; k, v, dk, dv [keys, kv_heads hd]; lse, delta [rows, heads], lse the log-sum-exp.
//   Query head h reads key head h / group.
//   tiles [tiles, 12]: first row, rows (at most ROWS), the start and length of the root, trunk and stem keys that they share, most
//   leaf keys of a row, the shared keys from, to that some row sees, from a multiple of KEYS.
//   rows_of [rows, 4]: how many of the shared keys a row sees; its leaf keys from, to; how many shared keys stand ahead of its own.
//   ranges [rows, 8]: all four ranges from, to.
// forward, backward_q: one block of 128 threads a tile and head; four threads a row, which take every fourth key of a chunk and every
//   fourth element of a head. Shared keys go through shared memory KEYS at a time; a row's own leaf keys follow one by one. forward finds
//   the highest score first, so that sums run over a row's own keys in their order and nothing else: its bits depend on those alone.
// backward_kv: one block ROWS keys and a key head; it visits the rows that see one of them (`seen_from` [blocks + 1], `seen`), in order.
// Bound by arithmetic (f32 FMA) from about ROWS rows a tile on.
#include "common/lea.cuh"

namespace lea {

constexpr int ROWS = 32;   // Query rows of a tile, keys of a block.
constexpr int KEYS = 32;   // Keys of a chunk, rows of a chunk.
constexpr int SHARE = 4;   // Threads of a row.
constexpr int ATTENTION_THREADS = ROWS * SHARE;
constexpr float LOWEST = -3.4028234e38f;

struct Tile {
    unsigned first, rows;
    unsigned start[3], length[3];
    unsigned leaf, from, to, unused;

    // Key at a place of the shared list. A row sees place p if p - own.w < own.x; a place ahead of its own wraps to a large number.
    __device__ __forceinline__ size_t key(unsigned place) const {
        if (place < length[0]) return start[0] + place;
        place -= length[0];
        if (place < length[1]) return start[1] + place;
        return start[2] + (place - length[1]);
    }
};

struct Shape {
    unsigned heads, group, hd;
    float scale;
    __device__ __forceinline__ size_t q_width() const { return (size_t)heads * hd; }
    __device__ __forceinline__ size_t kv_width() const { return (size_t)(heads / group) * hd; }
};

// Rows `row_of(i)` of one head of a matrix into shared memory [32][hd + 1], zeros where there is none.
template <class RowOf>
__device__ __forceinline__ void load_rows(const float* x, size_t width, size_t head, unsigned hd, unsigned count, float* to,
                                          RowOf row_of) {
    for (unsigned i = threadIdx.x; i < ROWS * hd; i += ATTENTION_THREADS) {
        const unsigned row = i / hd, d = i % hd;
        to[row * (hd + 1) + d] = row < count ? x[row_of(row) * width + head * hd + d] : 0.0f;
    }
}

__device__ __forceinline__ float dot(const float* a, const float* b, unsigned hd) {
    float sum = 0.0f;
    for (unsigned d = 0; d < hd; d++) sum = fmaf(a[d], b[d], sum);
    return sum;
}

// Sum over the four threads of a row.
__device__ __forceinline__ float share_sum(float value) {
    value += shuffle_xor(value, 1);
    return value + shuffle_xor(value, 2);
}

template <int MOST>
__device__ __forceinline__ void attention_forward(Shape shape, const Tile* tiles, const uint4* rows_of, const float* q,
                                                  const float* k, const float* v, float* out, float* lse, float* shared) {
    const Tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, hd = shape.hd, pitch = hd + 1;
    float *q_rows = shared, *k_rows = q_rows + ROWS * pitch, *v_rows = k_rows + KEYS * pitch, *p = v_rows + KEYS * pitch;
    const unsigned row = threadIdx.x / SHARE, share = threadIdx.x % SHARE;
    const size_t global_row = (size_t)tile.first + row;
    const bool present = row < tile.rows;
    uint4 own = make_uint4(0, 0, 0, 0);
    if (present) own = rows_of[global_row];
    load_rows(q, shape.q_width(), head, hd, tile.rows, q_rows, [&](unsigned i) { return (size_t)tile.first + i; });
    const size_t kv_head = head / shape.group;
    // Scores of this thread's keys of a chunk, LOWEST for keys that the row does not see.
    float scores[KEYS / SHARE];
    auto score_chunk = [&](unsigned start, unsigned count) {
        __syncthreads();  // Rows of q are there; the chunk before is done with.
        load_rows(k, shape.kv_width(), kv_head, hd, count, k_rows, [&](unsigned i) { return tile.key(start + i); });
        load_rows(v, shape.kv_width(), kv_head, hd, count, v_rows, [&](unsigned i) { return tile.key(start + i); });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) {
            const unsigned key = i * SHARE + share;
            scores[i] = LOWEST;
            if (start + key - own.w < own.x) scores[i] = shape.scale * dot(q_rows + row * pitch, k_rows + key * pitch, hd);
        }
    };
    auto leaf_score = [&](size_t key) {
        float score = 0.0f;
        if (key < own.z)
            for (unsigned d = share; d < hd; d += SHARE)
                score = fmaf(q_rows[row * pitch + d], k[key * shape.kv_width() + kv_head * hd + d], score);
        return share_sum(score) * shape.scale;
    };
    auto count_of = [&](unsigned start) { return tile.to - start < KEYS ? tile.to - start : KEYS; };
    float most = LOWEST;
    for (unsigned start = tile.from; start < tile.to; start += KEYS) {
        score_chunk(start, count_of(start));
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) most = fmaxf(most, scores[i]);
    }
    if (tile.from >= tile.to) __syncthreads();
    for (unsigned i = 0; i < tile.leaf; i++) {
        const float score = leaf_score(own.y + i);
        if (own.y + i < own.z) most = fmaxf(most, score);
    }
    most = fmaxf(most, shuffle_xor(most, 1));
    most = fmaxf(most, shuffle_xor(most, 2));
    // Weights are added up in the order of keys, so that the sums do not depend on where chunks begin.
    float total = 0.0f, sums[MOST / SHARE] = {};
    for (unsigned start = tile.from; start < tile.to; start += KEYS) {
        const unsigned count = count_of(start);
        // What fits one chunk is there still.
        if (tile.to - tile.from > KEYS) score_chunk(start, count);
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) {
            const unsigned key = i * SHARE + share;
            p[row * (KEYS + 1) + key] = start + key - own.w < own.x ? expf(scores[i] - most) : 0.0f;
        }
        __syncthreads();
        for (unsigned key = 0; key < count; key++) {
            const float weight = p[row * (KEYS + 1) + key];
            total += weight;
#pragma unroll
            for (int j = 0; j < MOST / SHARE; j++) {
                const unsigned d = j * SHARE + share;
                if (d < hd) sums[j] = fmaf(weight, v_rows[key * pitch + d], sums[j]);
            }
        }
    }
    for (unsigned i = 0; i < tile.leaf; i++) {
        const size_t key = own.y + i;
        const float score = leaf_score(key);
        if (key >= own.z) continue;
        const float weight = expf(score - most);
        total += weight;
#pragma unroll
        for (int j = 0; j < MOST / SHARE; j++) {
            const unsigned d = j * SHARE + share;
            if (d < hd) sums[j] = fmaf(weight, v[key * shape.kv_width() + kv_head * hd + d], sums[j]);
        }
    }
    if (!present) return;
#pragma unroll
    for (int j = 0; j < MOST / SHARE; j++) {
        const unsigned d = j * SHARE + share;
        if (d < hd) out[global_row * shape.q_width() + head * hd + d] = sums[j] / total;
    }
    if (share == 0) lse[global_row * shape.heads + head] = most + logf(total);
}

template <int MOST>
__device__ __forceinline__ void attention_backward_q(Shape shape, const Tile* tiles, const uint4* rows_of, const float* q,
                                                     const float* k, const float* v, const float* dout, const float* lse,
                                                     const float* delta, float* dq, float* shared) {
    const Tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, hd = shape.hd, pitch = hd + 1;
    float *q_rows = shared, *d_rows = q_rows + ROWS * pitch, *k_rows = d_rows + ROWS * pitch, *v_rows = k_rows + KEYS * pitch,
          *ds = v_rows + KEYS * pitch;
    const unsigned row = threadIdx.x / SHARE, share = threadIdx.x % SHARE;
    const size_t global_row = (size_t)tile.first + row;
    const bool present = row < tile.rows;
    uint4 own = make_uint4(0, 0, 0, 0);
    float log_sum = 0.0f, along = 0.0f;
    if (present) {
        own = rows_of[global_row];
        log_sum = lse[global_row * shape.heads + head];
        along = delta[global_row * shape.heads + head];
    }
    load_rows(q, shape.q_width(), head, hd, tile.rows, q_rows, [&](unsigned i) { return (size_t)tile.first + i; });
    load_rows(dout, shape.q_width(), head, hd, tile.rows, d_rows, [&](unsigned i) { return (size_t)tile.first + i; });
    float sums[MOST / SHARE] = {};
    for (unsigned start = tile.from; start < tile.to; start += KEYS) {
        const unsigned count = tile.to - start < KEYS ? tile.to - start : KEYS;
        __syncthreads();
        load_rows(k, shape.kv_width(), head / shape.group, hd, count, k_rows, [&](unsigned i) { return tile.key(start + i); });
        load_rows(v, shape.kv_width(), head / shape.group, hd, count, v_rows, [&](unsigned i) { return tile.key(start + i); });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) {
            const unsigned key = i * SHARE + share;
            float slope = 0.0f;
            if (start + key - own.w < own.x) {
                const float score = shape.scale * dot(q_rows + row * pitch, k_rows + key * pitch, hd);
                slope = expf(score - log_sum) * (dot(d_rows + row * pitch, v_rows + key * pitch, hd) - along) * shape.scale;
            }
            ds[row * (KEYS + 1) + key] = slope;
        }
        __syncthreads();
        for (unsigned key = 0; key < count; key++) {
            const float slope = ds[row * (KEYS + 1) + key];
#pragma unroll
            for (int j = 0; j < MOST / SHARE; j++) {
                const unsigned d = j * SHARE + share;
                if (d < hd) sums[j] = fmaf(slope, k_rows[key * pitch + d], sums[j]);
            }
        }
    }
    if (tile.from >= tile.to) __syncthreads();
    for (unsigned i = 0; i < tile.leaf; i++) {
        const size_t key = own.y + i;
        const bool seen = key < own.z;
        const size_t at = key * shape.kv_width() + (size_t)(head / shape.group) * hd;
        float score = 0.0f, dp = 0.0f;
        if (seen) {
            for (unsigned d = share; d < hd; d += SHARE) {
                score = fmaf(q_rows[row * pitch + d], k[at + d], score);
                dp = fmaf(d_rows[row * pitch + d], v[at + d], dp);
            }
        }
        score = share_sum(score) * shape.scale;
        dp = share_sum(dp);
        if (!seen) continue;
        const float slope = expf(score - log_sum) * (dp - along) * shape.scale;
#pragma unroll
        for (int j = 0; j < MOST / SHARE; j++) {
            const unsigned d = j * SHARE + share;
            if (d < hd) sums[j] = fmaf(slope, k[at + d], sums[j]);
        }
    }
    if (!present) return;
#pragma unroll
    for (int j = 0; j < MOST / SHARE; j++) {
        const unsigned d = j * SHARE + share;
        if (d < hd) dq[global_row * shape.q_width() + head * hd + d] = sums[j];
    }
}

template <int MOST>
__device__ __forceinline__ void attention_backward_kv(Shape shape, size_t keys, const unsigned* ranges,
                                                      const unsigned* seen_from, const unsigned* seen, const float* q,
                                                      const float* k, const float* v, const float* dout, const float* lse,
                                                      const float* delta, float* dk, float* dv, float* shared) {
    const unsigned kv_head = blockIdx.y, hd = shape.hd, pitch = hd + 1;
    const size_t first = (size_t)blockIdx.x * ROWS;
    const unsigned present = keys - first < ROWS ? (unsigned)(keys - first) : ROWS;
    float *k_rows = shared, *v_rows = k_rows + ROWS * pitch, *q_rows = v_rows + ROWS * pitch, *d_rows = q_rows + KEYS * pitch,
          *p = d_rows + KEYS * pitch, *ds = p + ROWS * (KEYS + 1);
    const unsigned row = threadIdx.x / SHARE, share = threadIdx.x % SHARE;
    const size_t key = first + row;
    load_rows(k, shape.kv_width(), kv_head, hd, present, k_rows, [&](unsigned i) { return first + i; });
    load_rows(v, shape.kv_width(), kv_head, hd, present, v_rows, [&](unsigned i) { return first + i; });
    float dk_sums[MOST / SHARE] = {}, dv_sums[MOST / SHARE] = {};
    const unsigned from = seen_from[blockIdx.x], to = seen_from[blockIdx.x + 1];
    for (unsigned head = kv_head * shape.group; head < (kv_head + 1) * shape.group; head++) {
        for (unsigned start = from; start < to; start += KEYS) {
            const unsigned count = to - start < KEYS ? to - start : KEYS;
            __syncthreads();
            load_rows(q, shape.q_width(), head, hd, count, q_rows, [&](unsigned i) { return (size_t)seen[start + i]; });
            load_rows(dout, shape.q_width(), head, hd, count, d_rows, [&](unsigned i) { return (size_t)seen[start + i]; });
            __syncthreads();
#pragma unroll
            for (int i = 0; i < KEYS / SHARE; i++) {
                const unsigned other = i * SHARE + share;
                float weight = 0.0f, slope = 0.0f;
                if (other < count) {
                    const size_t query = seen[start + other];
                    bool sees = false;
                    for (int range = 0; range < 4; range++)
                        sees |= ranges[query * 8 + 2 * range] <= key && key < ranges[query * 8 + 2 * range + 1];
                    if (sees) {
                        const float score = shape.scale * dot(q_rows + other * pitch, k_rows + row * pitch, hd);
                        weight = expf(score - lse[query * shape.heads + head]);
                        const float dp = dot(d_rows + other * pitch, v_rows + row * pitch, hd);
                        slope = weight * (dp - delta[query * shape.heads + head]) * shape.scale;
                    }
                }
                p[row * (KEYS + 1) + other] = weight;
                ds[row * (KEYS + 1) + other] = slope;
            }
            __syncthreads();
            for (unsigned other = 0; other < count; other++) {
                const float weight = p[row * (KEYS + 1) + other], slope = ds[row * (KEYS + 1) + other];
#pragma unroll
                for (int j = 0; j < MOST / SHARE; j++) {
                    const unsigned d = j * SHARE + share;
                    if (d >= hd) continue;
                    dv_sums[j] = fmaf(weight, d_rows[other * pitch + d], dv_sums[j]);
                    dk_sums[j] = fmaf(slope, q_rows[other * pitch + d], dk_sums[j]);
                }
            }
        }
    }
    if (row >= present) return;
#pragma unroll
    for (int j = 0; j < MOST / SHARE; j++) {
        const unsigned d = j * SHARE + share;
        if (d >= hd) continue;
        dk[key * shape.kv_width() + kv_head * hd + d] = dk_sums[j];
        dv[key * shape.kv_width() + kv_head * hd + d] = dv_sums[j];
    }
}

}  // namespace lea

// delta = sum over a head of dout out; one warp a row and head.
KERNEL(256, lea_forest_attention_delta, size_t len, size_t hd, const float* out, const float* dout, float* delta) {
    const size_t i = lea::global_thread() / lea::WARP;
    if (i >= len) return;
    float sum = 0.0f;
    for (size_t d = threadIdx.x % lea::WARP; d < hd; d += lea::WARP) sum = fmaf(out[i * hd + d], dout[i * hd + d], sum);
    sum = lea::warp_sum(sum);
    if (threadIdx.x % lea::WARP == 0) delta[i] = sum;
}

#define FOREST_ATTENTION(most)                                                                                             \
    KERNEL(128, lea_forest_attention_forward_##most, unsigned heads, unsigned group, unsigned hd, float scale,               \
           const unsigned* tiles, const unsigned* rows_of, const float* q, const float* k, const float* v, float* out,        \
           float* lse) {                                                                                                     \
        DYNAMIC_SHARED(shared);                                                                                               \
        lea::attention_forward<most>({heads, group, hd, scale}, (const lea::Tile*)tiles, (const uint4*)rows_of, q, k, v, out, \
                                     lse, (float*)shared);                                                                    \
    }                                                                                                                         \
    KERNEL(128, lea_forest_attention_backward_q_##most, unsigned heads, unsigned group, unsigned hd, float scale,               \
           const unsigned* tiles, const unsigned* rows_of, const float* q, const float* k, const float* v,                    \
           const float* dout, const float* lse, const float* delta, float* dq) {                                              \
        DYNAMIC_SHARED(shared);                                                                                               \
        lea::attention_backward_q<most>({heads, group, hd, scale}, (const lea::Tile*)tiles, (const uint4*)rows_of, q, k, v,   \
                                        dout, lse, delta, dq, (float*)shared);                                                \
    }                                                                                                                         \
    KERNEL(128, lea_forest_attention_backward_kv_##most, unsigned heads, unsigned group, unsigned hd, float scale,              \
           size_t keys, const unsigned* ranges, const unsigned* seen_from, const unsigned* seen, const float* q,              \
           const float* k, const float* v, const float* dout, const float* lse, const float* delta, float* dk, float* dv) {   \
        DYNAMIC_SHARED(shared);                                                                                               \
        lea::attention_backward_kv<most>({heads, group, hd, scale}, keys, ranges, seen_from, seen, q, k, v, dout, lse,         \
                                         delta, dk, dv, (float*)shared);                                                      \
    }

FOREST_ATTENTION(32)
FOREST_ATTENTION(64)
FOREST_ATTENTION(128)
FOREST_ATTENTION(256)
