// Forest attention in f32: out = softmax(scale q k^T) v, where a query row sees up to four ranges of keys, and its gradients.
//   q, out, dout, dq [rows, heads hd]; k, v, dk, dv [keys, kv_heads hd]; lse, delta [rows, heads], lse the log-sum-exp.
//   Query head h reads key head h / group.
//   tiles [tiles, 12]: first row, rows (at most ROWS), the start and length of the root, trunk and stem keys that they share, most
//   leaf keys of a row, the shared keys from, to that some row sees, from a multiple of KEYS.
//   rows_of [rows, 4]: how many of the shared keys a row sees; its leaf keys from, to; how many shared keys stand ahead of its own.
//   ranges [rows, 8]: all four ranges from, to.
// forward, backward_q: one block of 128 threads a tile and head; four threads a row, which take every fourth key of a chunk and every
//   fourth four elements of a head. All keys of a thread are multiplied side by side: nine loads of four elements from shared memory
//   serve 32 multiply-adds. Shared keys go through shared memory KEYS at a time; a row's own leaf keys follow one by one. forward finds
//   the highest score first, so that sums run over a row's own keys in their order and nothing else: its bits depend on those alone.
// backward_kv: one block ROWS keys and a key head; it visits the rows that see one of them (`seen_from` [blocks + 1], `seen`), in order.
// Bound by arithmetic (f32 FMA) from about ROWS rows a tile on.
#include "common/lea.cuh"

namespace lea {

constexpr int ROWS = 32;   // Query rows of a tile, keys of a block.
constexpr int KEYS = 32;   // Keys of a chunk, rows of a chunk.
constexpr int SHARE = 4;   // Threads of a row.
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
    // Elements from a row to the next in shared memory: zeros make up fours, and four more keep rows in different banks.
    __device__ __forceinline__ unsigned padded() const { return (hd + 3) / 4 * 4; }
    __device__ __forceinline__ unsigned pitch() const { return padded() + 4; }
};

// Four elements of a row of `hd` from `d` on, zeros behind its end.
__device__ __forceinline__ float4 four_of(const float* row, unsigned d, unsigned hd) {
    if (hd % 4 == 0 && (size_t)row % 16 == 0) return d < hd ? load4(row + d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return make_float4(d < hd ? row[d] : 0.0f, d + 1 < hd ? row[d + 1] : 0.0f, d + 2 < hd ? row[d + 2] : 0.0f,
                       d + 3 < hd ? row[d + 3] : 0.0f);
}

// The reverse.
__device__ __forceinline__ void put_four(float* row, unsigned d, unsigned hd, float4 x) {
    if (hd % 4 == 0 && (size_t)row % 16 == 0) {
        if (d < hd) store4(row + d, x);
        return;
    }
    if (d < hd) row[d] = x.x;
    if (d + 1 < hd) row[d + 1] = x.y;
    if (d + 2 < hd) row[d + 2] = x.z;
    if (d + 3 < hd) row[d + 3] = x.w;
}

// sum + a b, element by element in order.
__device__ __forceinline__ float dot4(float4 a, float4 b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}
// sums + factor x.
__device__ __forceinline__ void add4(float factor, float4 x, float4& sums) {
    sums.x = fmaf(factor, x.x, sums.x);
    sums.y = fmaf(factor, x.y, sums.y);
    sums.z = fmaf(factor, x.z, sums.z);
    sums.w = fmaf(factor, x.w, sums.w);
}
__device__ __forceinline__ float4 over(float4 x, float divisor) {
    return make_float4(x.x / divisor, x.y / divisor, x.z / divisor, x.w / divisor);
}

// Rows `row_of(i)` of one head of a matrix into shared memory [32][pitch], zeros where there is none: four threads a row.
template <int MOST, class RowOf>
__device__ __forceinline__ void load_rows(const float* x, size_t width, size_t head, const Shape& shape, unsigned count,
                                          float* to, RowOf row_of) {
    const unsigned row = threadIdx.x / SHARE, share = threadIdx.x % SHARE;
    const bool present = row < count;
    const float* from = present ? x + row_of(row) * width + head * shape.hd : x;
#pragma unroll
    for (int j = 0; j < MOST / (4 * SHARE); j++) {
        const unsigned d = (j * SHARE + share) * 4;
        if (d < shape.padded())
            store4(to + row * shape.pitch() + d, present ? four_of(from, d, shape.hd) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    }
}

// Products of a row in shared memory with this thread's rows of another matrix there: share, SHARE + share and so on.
__device__ __forceinline__ void products(const float* row, const float* others, const Shape& shape, float (&sums)[KEYS / SHARE]) {
    const unsigned share = threadIdx.x % SHARE, pitch = shape.pitch();
#pragma unroll
    for (int i = 0; i < KEYS / SHARE; i++) sums[i] = 0.0f;
    for (unsigned d = 0; d < shape.padded(); d += 4) {
        const float4 a = load4(row + d);
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) sums[i] = dot4(a, load4(others + (i * SHARE + share) * pitch + d), sums[i]);
    }
}

// Sum over the four threads of a row.
__device__ __forceinline__ float share_sum(float value) {
    value += shuffle_xor(value, 1);
    return value + shuffle_xor(value, 2);
}

template <int MOST>
__device__ __forceinline__ void attention_forward(Shape shape, const Tile* tiles, const uint4* rows_of, const float* q,
                                                  const float* k, const float* v, float* out, float* lse, float* shared) {
    constexpr int FOURS = MOST / (4 * SHARE);  // Groups of four elements of a head that a thread has.
    const Tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, hd = shape.hd, pitch = shape.pitch();
    float *q_rows = shared, *k_rows = q_rows + ROWS * pitch, *v_rows = k_rows + KEYS * pitch, *p = v_rows + KEYS * pitch;
    const unsigned row = threadIdx.x / SHARE, share = threadIdx.x % SHARE;
    const size_t global_row = (size_t)tile.first + row;
    const bool present = row < tile.rows;
    uint4 own = make_uint4(0, 0, 0, 0);
    if (present) own = rows_of[global_row];
    load_rows<MOST>(q, shape.q_width(), head, shape, tile.rows, q_rows, [&](unsigned i) { return (size_t)tile.first + i; });
    const size_t kv_head = head / shape.group;
    // Scores of this thread's keys of a chunk, LOWEST for keys that the row does not see.
    float scores[KEYS / SHARE];
    auto score_chunk = [&](unsigned start, unsigned count) {
        __syncthreads();  // Rows of q are there; the chunk before is done with.
        load_rows<MOST>(k, shape.kv_width(), kv_head, shape, count, k_rows, [&](unsigned i) { return tile.key(start + i); });
        load_rows<MOST>(v, shape.kv_width(), kv_head, shape, count, v_rows, [&](unsigned i) { return tile.key(start + i); });
        __syncthreads();
        products(q_rows + row * pitch, k_rows, shape, scores);
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++)
            scores[i] = start + i * SHARE + share - own.w < own.x ? shape.scale * scores[i] : LOWEST;
    };
    // This thread's part of a product of the row with one of its leaf keys: of the row, what it brought itself.
    auto leaf_part = [&](const float* mine, const float* key) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < FOURS; j++) {
            const unsigned d = (j * SHARE + share) * 4;
            if (d < hd) sum = dot4(load4(mine + row * pitch + d), four_of(key, d, hd), sum);
        }
        return sum;
    };
    auto leaf_score = [&](size_t key) {
        const float score = key < own.z ? leaf_part(q_rows, k + key * shape.kv_width() + kv_head * hd) : 0.0f;
        return share_sum(score) * shape.scale;
    };
    auto count_of = [&](unsigned start) { return tile.to - start < KEYS ? tile.to - start : KEYS; };
    float most = LOWEST;
    for (unsigned start = tile.from; start < tile.to; start += KEYS) {
        score_chunk(start, count_of(start));
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) most = fmaxf(most, scores[i]);
    }
    for (unsigned i = 0; i < tile.leaf; i++) {
        const float score = leaf_score(own.y + i);
        if (own.y + i < own.z) most = fmaxf(most, score);
    }
    most = fmaxf(most, shuffle_xor(most, 1));
    most = fmaxf(most, shuffle_xor(most, 2));
    // Weights are added up in the order of keys, so that the sums do not depend on where chunks begin.
    float total = 0.0f;
    float4 sums[FOURS] = {};
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
            for (int j = 0; j < FOURS; j++) {
                const unsigned d = (j * SHARE + share) * 4;
                if (d < hd) add4(weight, load4(v_rows + key * pitch + d), sums[j]);
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
        for (int j = 0; j < FOURS; j++)
            add4(weight, four_of(v + key * shape.kv_width() + kv_head * hd, (j * SHARE + share) * 4, hd), sums[j]);
    }
    if (!present) return;
    float* to = out + global_row * shape.q_width() + head * hd;
#pragma unroll
    for (int j = 0; j < FOURS; j++) put_four(to, (j * SHARE + share) * 4, hd, over(sums[j], total));
    if (share == 0) lse[global_row * shape.heads + head] = most + logf(total);
}

template <int MOST>
__device__ __forceinline__ void attention_backward_q(Shape shape, const Tile* tiles, const uint4* rows_of, const float* q,
                                                     const float* k, const float* v, const float* dout, const float* lse,
                                                     const float* delta, float* dq, float* shared) {
    constexpr int FOURS = MOST / (4 * SHARE);  // Groups of four elements of a head that a thread has.
    const Tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, hd = shape.hd, pitch = shape.pitch();
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
    load_rows<MOST>(q, shape.q_width(), head, shape, tile.rows, q_rows, [&](unsigned i) { return (size_t)tile.first + i; });
    load_rows<MOST>(dout, shape.q_width(), head, shape, tile.rows, d_rows, [&](unsigned i) { return (size_t)tile.first + i; });
    float4 sums[FOURS] = {};
    for (unsigned start = tile.from; start < tile.to; start += KEYS) {
        const unsigned count = tile.to - start < KEYS ? tile.to - start : KEYS;
        __syncthreads();
        load_rows<MOST>(k, shape.kv_width(), head / shape.group, shape, count, k_rows, [&](unsigned i) { return tile.key(start + i); });
        load_rows<MOST>(v, shape.kv_width(), head / shape.group, shape, count, v_rows, [&](unsigned i) { return tile.key(start + i); });
        __syncthreads();
        float scores[KEYS / SHARE], dp[KEYS / SHARE];
        products(q_rows + row * pitch, k_rows, shape, scores);
        products(d_rows + row * pitch, v_rows, shape, dp);
#pragma unroll
        for (int i = 0; i < KEYS / SHARE; i++) {
            const unsigned key = i * SHARE + share;
            float slope = 0.0f;
            if (start + key - own.w < own.x) slope = expf(shape.scale * scores[i] - log_sum) * (dp[i] - along) * shape.scale;
            ds[row * (KEYS + 1) + key] = slope;
        }
        __syncthreads();
        for (unsigned key = 0; key < count; key++) {
            const float slope = ds[row * (KEYS + 1) + key];
#pragma unroll
            for (int j = 0; j < FOURS; j++) {
                const unsigned d = (j * SHARE + share) * 4;
                if (d < hd) add4(slope, load4(k_rows + key * pitch + d), sums[j]);
            }
        }
    }
    // Of the row's q and dout a thread reads what it brought itself.
    for (unsigned i = 0; i < tile.leaf; i++) {
        const size_t key = own.y + i;
        const bool seen = key < own.z;
        const size_t at = key * shape.kv_width() + (size_t)(head / shape.group) * hd;
        float score = 0.0f, dp = 0.0f;
        if (seen) {
#pragma unroll
            for (int j = 0; j < FOURS; j++) {
                const unsigned d = (j * SHARE + share) * 4;
                if (d >= hd) continue;
                score = dot4(load4(q_rows + row * pitch + d), four_of(k + at, d, hd), score);
                dp = dot4(load4(d_rows + row * pitch + d), four_of(v + at, d, hd), dp);
            }
        }
        score = share_sum(score) * shape.scale;
        dp = share_sum(dp);
        if (!seen) continue;
        const float slope = expf(score - log_sum) * (dp - along) * shape.scale;
#pragma unroll
        for (int j = 0; j < FOURS; j++) add4(slope, four_of(k + at, (j * SHARE + share) * 4, hd), sums[j]);
    }
    if (!present) return;
    float* to = dq + global_row * shape.q_width() + head * hd;
#pragma unroll
    for (int j = 0; j < FOURS; j++) put_four(to, (j * SHARE + share) * 4, hd, sums[j]);
}

template <int MOST>
__device__ __forceinline__ void attention_backward_kv(Shape shape, size_t keys, const uint4* ranges,
                                                      const unsigned* seen_from, const unsigned* seen, const float* q,
                                                      const float* k, const float* v, const float* dout, const float* lse,
                                                      const float* delta, float* dk, float* dv, float* shared) {
    constexpr int FOURS = MOST / (4 * SHARE);  // Groups of four elements of a head that a thread has.
    const unsigned kv_head = blockIdx.y, hd = shape.hd, pitch = shape.pitch();
    const size_t first = (size_t)blockIdx.x * ROWS;
    const unsigned present = keys - first < ROWS ? (unsigned)(keys - first) : ROWS;
    float *k_rows = shared, *v_rows = k_rows + ROWS * pitch, *q_rows = v_rows + ROWS * pitch, *d_rows = q_rows + KEYS * pitch,
          *p = d_rows + KEYS * pitch, *ds = p + ROWS * (KEYS + 1);
    const unsigned row = threadIdx.x / SHARE, share = threadIdx.x % SHARE;
    const size_t key = first + row;
    load_rows<MOST>(k, shape.kv_width(), kv_head, shape, present, k_rows, [&](unsigned i) { return first + i; });
    load_rows<MOST>(v, shape.kv_width(), kv_head, shape, present, v_rows, [&](unsigned i) { return first + i; });
    float4 dk_sums[FOURS] = {}, dv_sums[FOURS] = {};
    const unsigned from = seen_from[blockIdx.x], to = seen_from[blockIdx.x + 1];
    for (unsigned head = kv_head * shape.group; head < (kv_head + 1) * shape.group; head++) {
        for (unsigned start = from; start < to; start += KEYS) {
            const unsigned count = to - start < KEYS ? to - start : KEYS;
            __syncthreads();
            load_rows<MOST>(q, shape.q_width(), head, shape, count, q_rows, [&](unsigned i) { return (size_t)seen[start + i]; });
            load_rows<MOST>(dout, shape.q_width(), head, shape, count, d_rows, [&](unsigned i) { return (size_t)seen[start + i]; });
            __syncthreads();
            float scores[KEYS / SHARE], dp[KEYS / SHARE];
            products(k_rows + row * pitch, q_rows, shape, scores);
            products(v_rows + row * pitch, d_rows, shape, dp);
#pragma unroll
            for (int i = 0; i < KEYS / SHARE; i++) {
                const unsigned other = i * SHARE + share;
                float weight = 0.0f, slope = 0.0f;
                if (other < count) {
                    const size_t query = seen[start + other];
                    const uint4 *two = ranges + 2 * query, one = two[0], next = two[1];
                    const bool sees = (one.x <= key && key < one.y) || (one.z <= key && key < one.w) ||
                                      (next.x <= key && key < next.y) || (next.z <= key && key < next.w);
                    if (sees) {
                        weight = expf(shape.scale * scores[i] - lse[query * shape.heads + head]);
                        slope = weight * (dp[i] - delta[query * shape.heads + head]) * shape.scale;
                    }
                }
                p[row * (KEYS + 1) + other] = weight;
                ds[row * (KEYS + 1) + other] = slope;
            }
            __syncthreads();
            for (unsigned other = 0; other < count; other++) {
                const float weight = p[row * (KEYS + 1) + other], slope = ds[row * (KEYS + 1) + other];
#pragma unroll
                for (int j = 0; j < FOURS; j++) {
                    const unsigned d = (j * SHARE + share) * 4;
                    if (d >= hd) continue;
                    add4(weight, load4(d_rows + other * pitch + d), dv_sums[j]);
                    add4(slope, load4(q_rows + other * pitch + d), dk_sums[j]);
                }
            }
        }
    }
    if (row >= present) return;
    const size_t own = key * shape.kv_width() + kv_head * hd;
#pragma unroll
    for (int j = 0; j < FOURS; j++) {
        const unsigned d = (j * SHARE + share) * 4;
        put_four(dk + own, d, hd, dk_sums[j]);
        put_four(dv + own, d, hd, dv_sums[j]);
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
        lea::attention_backward_kv<most>({heads, group, hd, scale}, keys, (const uint4*)ranges, seen_from, seen, q, k, v, dout, lse,         \
                                         delta, dk, dv, (float*)shared);                                                      \
    }

FOREST_ATTENTION(32)
FOREST_ATTENTION(64)
FOREST_ATTENTION(128)
FOREST_ATTENTION(256)
