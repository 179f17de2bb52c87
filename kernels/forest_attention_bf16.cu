// Forest attention forward on tensor cores: out = softmax(scale q k^T) v with q, k, v and the weights rounded to bf16, sums and the
// softmax in f32. For sm_80 and later; its gradients are those of forest_attention_bf16_backward.cu.
//   q [rows, heads hd], leaf_k, leaf_v [keys, kv_heads hd], all f32 or all bf16; out like q, f32 or bf16;
//   k, v [shared keys, kv_heads, stored] bf16: those of them that tiles share, as `round` leaves them, zeros from hd to `stored`, the width
//   of the kernel; or all keys as they came, `stored` the hd elements, where that is a multiple of 8 and they begin at one of 16 bytes;
//   lse [rows, heads] f32, the log-sum-exp of a row's scores. Query head h reads key head h / group.
//   tiles [tiles, 12]: first row, rows, the start among shared keys and the length of the root, trunk and stem keys that they share, the
//   first of all leaf keys that they see and how many there are up to the last; nothing twice.
//   rows_of [rows, 4]: how many of the shared keys a row sees, from the first on; its leaf keys from, to; nothing.
// One block of four warps a tile and key head (and 64 heads of a larger group). Rows of the product are rows of the tile times
// heads of the group, 16 a warp; a warp without rows only copies. Shared keys go through shared memory CHUNK at a time, copied beside
// the threads: values while scores are taken, the next keys while the values are multiplied. A row's own leaf keys, one where the
// closing text is empty, follow as f32 sums of products of the rounded values, read as they are: nobody else reads them.
// A row's bits depend on its own keys alone: chunks are counted from its first key, which is that of all rows of its tile; keys that it
// does not see weigh exactly 0; products of 16 keys are added up in the order of keys.
// Of a full tile 64 FLOP a byte of keys and values; what bounds it is not known: it reached 23 to 35 % of an H100's bandwidth and less of its
// arithmetic. See NOTES.md.
#include "common/attention_products.cuh"

namespace lea {

constexpr int WARPS = 4;
constexpr int TILE = WARPS * WARP_ROWS;
constexpr int CHUNK = 64;

struct RoundedShape {
    unsigned heads, group, hd, stored;
    float scale;
};

// Four elements at a multiple of their bytes, in bf16.
__device__ __forceinline__ uint2 bf16_four(const float* from) {
    const float4 x = load4(from);
    return {pack_bf16(x.x, x.y), pack_bf16(x.z, x.w)};
}
__device__ __forceinline__ uint2 bf16_four(const bf16* from) { return *reinterpret_cast<const uint2*>(from); }

// Up to 64 rows of q, one of `row_at(i)` elements into it, into shared memory; zeros from `rows` on and from hd on.
template <int WIDTH, class T, class RowAt>
__device__ __forceinline__ void load_queries(const T* q, unsigned hd, unsigned rows, bf16* to, RowAt row_at) {
    const bool whole = hd % 4 == 0 && (size_t)q % (4 * sizeof(T)) == 0;
    for (unsigned i = threadIdx.x; i < TILE * WIDTH / 4; i += WARPS * WARP) {
        const unsigned row = i / (WIDTH / 4), d = i % (WIDTH / 4) * 4;
        uint2 four = {0, 0};
        if (row < rows && d < hd) {
            const T* from = q + row_at(row);
            four = whole ? bf16_four(from + d) : uint2{bf16_pair(from, d, hd), bf16_pair(from, d + 2, hd)};
        }
        unsigned* pairs = (unsigned*)(to + row * (WIDTH + PAD) + d);
        pairs[0] = four.x;
        pairs[1] = four.y;
    }
}

// Begins to copy keys `start`.. of the shared list, `stored` elements of each; zeros behind them and behind its end, as far as products reach.
template <int WIDTH>
__device__ __forceinline__ void copy_chunk(const bf16* x, const SharedKeys& keys, unsigned start, size_t pitch, unsigned stored, bf16* to) {
    constexpr unsigned UNITS = WIDTH / 8;
    const unsigned left = keys.count() - start;
    const unsigned rows = left < CHUNK ? (left + STEP - 1) / STEP * STEP : CHUNK;
    for (unsigned i = threadIdx.x; i < rows * UNITS; i += WARPS * WARP) {
        const unsigned row = i / UNITS, unit = i % UNITS;
        const bool there = row < left && unit * 8 < stored;
        const size_t key = there ? keys.key(start + row) : 0;
        cp_async_16(to + row * (WIDTH + PAD) + unit * 8, there ? x + key * pitch + unit * 8 : x, there ? 16 : 0);
    }
}

template <int WIDTH, class T>
__device__ __forceinline__ void attention_forward(RoundedShape shape, const uint4* tiles, const uint4* rows_of, const T* q, const T* leaf_k,
                                                  const T* leaf_v, const bf16* k, const bf16* v, void* out, bool rounds_out, float* lse,
                                                  bf16* shared) {
    // A lane's part of the queries stays in registers where there is room.
    constexpr bool HELD = WIDTH <= 128;
    constexpr int MATRIX = TILE * (WIDTH + PAD);
    bf16 *queries = shared, *key_rows = queries + MATRIX, *value_rows = key_rows + MATRIX;
    const uint4 head_words = tiles[3 * blockIdx.x], tail = tiles[3 * blockIdx.x + 1];
    const SharedKeys keys{{head_words.z, head_words.w, tail.x}, {tail.y, tail.z, tail.w}};
    const size_t first_row = head_words.x;
    const unsigned group = shape.group, hd = shape.hd, kv_head = blockIdx.y, skipped = blockIdx.z * TILE;
    const unsigned rows = min(head_words.y * group - skipped, (unsigned)TILE), count = keys.count();
    const size_t pitch = (size_t)(shape.heads / group) * shape.stored;
    k += (size_t)kv_head * shape.stored;
    v += (size_t)kv_head * shape.stored;
    // Row and head of a row of the product, as one number: rows of [rows, heads].
    auto place_of = [&](unsigned row) {
        const unsigned i = row + skipped;
        return (first_row + i / group) * shape.heads + kv_head * group + i % group;
    };
    if (count > 0) copy_chunk<WIDTH>(k, keys, 0, pitch, shape.stored, key_rows);
    cp_async_commit();
    load_queries<WIDTH>(q, hd, rows, queries, [&](unsigned row) { return place_of(row) * hd; });
    const unsigned lane = threadIdx.x % WARP, of_warp = threadIdx.x / WARP * WARP_ROWS;
    const unsigned mine[2] = {of_warp + lane / 4, of_warp + lane / 4 + 8};
    auto of_row = [&](unsigned row) {
        return row < rows ? rows_of[first_row + (row + skipped) / group] : make_uint4(0, 0, 0, 0);
    };
    const unsigned seen[2] = {of_row(mine[0]).x, of_row(mine[1]).x};
    const unsigned warp_sees = warp_most(max(seen[0], seen[1]));
    const float factor = shape.scale * LOG2_E;
    Rows<WIDTH> state;
    state.begin();
    __syncthreads();
    const bf16* fragment = left_fragment<WIDTH>(queries + of_warp * (WIDTH + PAD));
    unsigned held[HELD ? WIDTH / STEP : 1][4];
    if (HELD)
#pragma unroll
        for (int step = 0; step < WIDTH / STEP; step++) ldmatrix_x4(held[HELD ? step : 0], fragment + step * STEP);
    auto query_at = [&](int step, unsigned(&to)[4]) {
        if (HELD)
            for (int i = 0; i < 4; i++) to[i] = held[HELD ? step : 0][i];
        else
            ldmatrix_x4(to, fragment + step * STEP);
    };
    for (unsigned start = 0; start < count; start += CHUNK) {
        const unsigned limit = warp_sees > start ? warp_sees - start : 0;
        float scores[CHUNK / 8][4];
        copy_chunk<WIDTH>(v, keys, start, pitch, shape.stored, value_rows);
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();  // The keys are there.
        if (limit > 0) multiply_rows<WIDTH>(key_rows, limit, query_at, scores);
        __syncthreads();  // They are done with.
        if (start + CHUNK < count) copy_chunk<WIDTH>(k, keys, start + CHUNK, pitch, shape.stored, key_rows);
        cp_async_commit();
        if (limit > 0) weigh(scores, factor, state, [&](unsigned column, int r) { return start + column < seen[r]; });
        cp_async_wait<1>();
        __syncthreads();  // The values are there.
        if (limit > 0) add_weighted<WIDTH>(value_rows, limit, scores, state.out);
        __syncthreads();  // They are done with.
    }
    for (int r = 0; r < 2; r++) state.total[r] = quad_sum(state.total[r]);
    const bf16* query = queries + mine[0] * (WIDTH + PAD) + lane % 4 * 2;
    auto pair_at = [&](int r, int j) { return *(const unsigned*)(query + r * 8 * (WIDTH + PAD) + j * 8); };
    const uint4 own[2] = {of_row(mine[0]), of_row(mine[1])};
    const size_t of_head = (size_t)kv_head * hd, leaf_pitch = (size_t)(shape.heads / group) * hd;
    // The widest heads have no registers for both.
    if (WIDTH <= 128 && hd == WIDTH && ((size_t)leaf_k | (size_t)leaf_v) % (2 * sizeof(T)) == 0)
        add_leaf(LeafKeys<WIDTH, WIDTH <= 128, T>{leaf_k + of_head, leaf_v + of_head, leaf_pitch, hd}, pair_at, factor, own, state);
    else
        add_leaf(LeafKeys<WIDTH, false, T>{leaf_k + of_head, leaf_v + of_head, leaf_pitch, hd}, pair_at, factor, own, state);
    const bool rounds_by_16 = rounds_out && hd % 8 == 0 && (size_t)out % 16 == 0;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const bool there = mine[r] < rows;
        const size_t place = there ? place_of(mine[r]) : 0;
        const float inverse = 1.0f / state.total[r];
        if (rounds_by_16) store_rounded(state, r, inverse, (bf16*)out + place * hd, hd, there);
        if (!there) continue;
        if (!rounds_by_16)
#pragma unroll
            for (int j = 0; j < WIDTH / 8; j++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const unsigned d = j * 8 + lane % 4 * 2 + i;
                    if (d >= hd) continue;
                    const float value = state.out[j][2 * r + i] * inverse;
                    if (rounds_out)
                        ((bf16*)out)[place * hd + d] = to_bf16(value);
                    else
                        ((float*)out)[place * hd + d] = value;
                }
        if (lane % 4 == 0) lse[place] = state.log_sum(r);
    }
}

// Keys or values of the listed rows: to [listed, kv_heads, width] in bf16 from [keys, kv_heads, hd], zeros from hd on. One thread two
// elements; `len` counts pairs.
template <class T>
__device__ __forceinline__ void round_keys(size_t len, unsigned kv_heads, unsigned hd, unsigned width, const unsigned* listed, const T* from,
                                           unsigned* to) {
    const size_t i = global_thread();
    if (i >= len) return;
    const size_t place = i / (width / 2), row = (size_t)listed[place / kv_heads] * kv_heads + place % kv_heads;
    to[i] = bf16_pair(from + row * hd, (unsigned)(i % (width / 2) * 2), hd);
}

}  // namespace lea

KERNEL(256, lea_forest_attention_bf16_round_f32, size_t len, unsigned kv_heads, unsigned hd, unsigned width, const unsigned* listed,
       const float* from, unsigned* to) {
    lea::round_keys(len, kv_heads, hd, width, listed, from, to);
}
KERNEL(256, lea_forest_attention_bf16_round_bf16, size_t len, unsigned kv_heads, unsigned hd, unsigned width, const unsigned* listed,
       const bf16* from, unsigned* to) {
    lea::round_keys(len, kv_heads, hd, width, listed, from, to);
}

// `type`: that of q and leaf keys; out is bf16 where `rounds_out` is not 0.
#define FOREST_ATTENTION(width, type, suffix)                                                                                    \
    KERNEL(128, lea_forest_attention_bf16_forward_##width##_##suffix, unsigned heads, unsigned group, unsigned hd, float scale,   \
           const unsigned* tiles, const unsigned* rows_of, const type* q, const type* leaf_k, const type* leaf_v, unsigned stored, \
           const bf16* k, const bf16* v, void* out, unsigned rounds_out, float* lse) {                                            \
        DYNAMIC_SHARED(shared);                                                                                                   \
        lea::attention_forward<width>({heads, group, hd, stored, scale}, (const uint4*)tiles, (const uint4*)rows_of, q, leaf_k,   \
                                      leaf_v, k, v, out, rounds_out != 0, lse, (bf16*)shared);                                    \
    }

FOREST_ATTENTION(32, float, f32)
FOREST_ATTENTION(64, float, f32)
FOREST_ATTENTION(96, float, f32)
FOREST_ATTENTION(128, float, f32)
FOREST_ATTENTION(256, float, f32)
FOREST_ATTENTION(32, bf16, bf16)
FOREST_ATTENTION(64, bf16, bf16)
FOREST_ATTENTION(96, bf16, bf16)
FOREST_ATTENTION(128, bf16, bf16)
FOREST_ATTENTION(256, bf16, bf16)
