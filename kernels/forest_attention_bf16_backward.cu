// Gradients of forest attention on tensor cores, of out = softmax(scale q k^T) v as forest_attention_bf16.cu makes it: q, k, v, dout, the weights
// p and their slopes ds = p (dout v^T - delta) scale rounded to bf16, sums and exponentials in f32. For sm_80 and later. With them
//   dq = ds k,  dk = ds^T q,  dv = p^T dout,  delta = sum over a head of dout out.
//   q, out, dout, dq [rows, heads hd], leaf_k, leaf_v, dk, dv [keys, kv_heads hd] f32; lse, delta [rows, heads] f32;
//   rounded_q, rounded_dout [rows, heads, WIDTH], shared_k, shared_v [shared keys, kv_heads, WIDTH] bf16, zeros from hd on;
//   tiles, rows_of: as there. Query head h reads key head h / group.
// Two launches, seven products of a pair in all. Before them `prepare` of forest_attention_bf16_keys.cu rounds rows, and keys and values that tiles
// share: its delta is of the rounded dout, so that the slopes of a row add up to 0 as they should.
//   q: one block a tile and key head, like forward: 64 rows times heads of the group, COLUMNS shared keys at a time; then own leaf keys in f32.
//   kv: one block a part and key head: 64 shared keys of one tree, or of the root, and COLUMNS rows times heads at a time, of the rows that see
//     one of them. parts [parts, 4]: first of the shared keys, how many, rows in the list from, to; seen [listed, 4]: a row, the bits of the 64
//     keys that it sees, nothing. Sums of a part go to part_k, part_v [parts, 64, kv_heads, WIDTH] f32. Heads of 256 take two blocks,
//     128 columns of the sums each.
// After them `keys` adds up the parts of a key in order, and the rows that see it as a leaf key.
// A row's dq depends on its own keys alone, and dk and dv of a key on the rows of its tree alone, in their order: lists are cut where the tree
// itself says; what a row does not see weighs exactly 0.
// Bound by arithmetic, and by shared memory alike: a read of 512 bytes feeds two products. See NOTES.md.
#include "common/attention_products.cuh"

namespace lea {

// Of a width: rows that a block takes at a time, how many such are on their way or there, elements in shared memory of the matrices of
// a block's own rows and of those; columns that a block adds up.
template <int WIDTH>
struct Back {
    static constexpr int COLUMNS = WIDTH <= 128 ? 32 : 16;
    static constexpr int STAGES = WIDTH <= 128 ? 2 : 1;
    static constexpr unsigned OWN = BACK_TILE * (WIDTH + PAD), OTHER = COLUMNS * (WIDTH + PAD);
    static constexpr int SUMS = WIDTH <= 128 ? WIDTH : 128;
};

// A warp's 16 rows as left factors, in registers where HELD.
template <int WIDTH, bool HELD>
struct LeftRows {
    const bf16* fragment;
    unsigned held[HELD ? WIDTH / STEP : 1][4];

    __device__ __forceinline__ void begin(const bf16* first) {
        fragment = left_fragment<WIDTH>(first);
        if (HELD)
#pragma unroll
            for (int step = 0; step < WIDTH / STEP; step++) ldmatrix_x4(held[HELD ? step : 0], fragment + step * STEP);
    }
    __device__ __forceinline__ void operator()(int step, unsigned (&to)[4]) const {
        if (HELD)
            for (int i = 0; i < 4; i++) to[i] = held[HELD ? step : 0][i];
        else
            ldmatrix_x4(to, fragment + step * STEP);
    }
};

// Begins to copy ROWS rows of two matrices of WIDTH elements a row, one of them `row_at(i)`; zeros from `there` on.
template <int WIDTH, int ROWS, class RowAt>
__device__ __forceinline__ void copy_two(const bf16* x, const bf16* y, unsigned there, bf16* to_x, bf16* to_y, RowAt row_at) {
    constexpr unsigned UNITS = WIDTH / 8;
    static_assert(ROWS * UNITS % BACK_THREADS == 0, "every thread copies alike");
#pragma unroll
    for (unsigned first = 0; first < ROWS * UNITS; first += BACK_THREADS) {
        const unsigned i = first + threadIdx.x, row = i / UNITS, unit = i % UNITS * 8, place = row * (WIDTH + PAD) + unit;
        const size_t from = row < there ? row_at(row) * WIDTH + unit : 0;
        cp_async_16(to_x + place, x + from, row < there ? 16 : 0);
        cp_async_16(to_y + place, y + from, row < there ? 16 : 0);
    }
}

// What a row of the product has: its log-sum-exp times log2 e, its delta.
struct Statistic {
    float base, along;
};

// Scores become weights, and products of dout with values slopes but for the factor `scale`; 0 where `sees(j, i)` is not, of the lane's element
// i of columns 8j and on. `of(j)` gives a function of i.
template <int COLUMNS, class Sees, class Of>
__device__ __forceinline__ void weights_and_slopes(float (&scores)[COLUMNS][4], float (&dp)[COLUMNS][4], float factor, Sees sees, Of of) {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
        const auto of_column = of(j);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const Statistic row = of_column(i);
            scores[j][i] = sees(j, i) ? exp2_fast(scores[j][i] * factor - row.base) : 0.0f;
            dp[j][i] = scores[j][i] * (dp[j][i] - row.along);
        }
    }
}

template <int WIDTH>
__device__ __forceinline__ void attention_back_q(BackShape shape, const uint4* tiles, const uint4* rows_of, const bf16* q, const bf16* dout,
                                                 const float* leaf_k, const float* leaf_v, const bf16* k, const bf16* v, const float* lse,
                                                 const float* delta, float* dq, bf16* shared) {
    using Of = Back<WIDTH>;
    constexpr bool HELD = WIDTH <= 128;
    bf16 *queries = shared, *douts = queries + Of::OWN, *stages = douts + Of::OWN;
    const uint4 head_words = tiles[3 * blockIdx.x], tail = tiles[3 * blockIdx.x + 1];
    const SharedKeys keys{{head_words.z, head_words.w, tail.x}, {tail.y, tail.z, tail.w}};
    const size_t first_row = head_words.x;
    const unsigned group = shape.group, hd = shape.hd, kv_head = blockIdx.y, skipped = blockIdx.z * BACK_TILE;
    const unsigned rows = min(head_words.y * group - skipped, BACK_TILE), count = keys.count();
    // Row and head of a row of the product, as one number.
    auto place_of = [&](unsigned row) {
        const unsigned i = row + skipped;
        return (first_row + i / group) * shape.heads + kv_head * group + i % group;
    };
    auto stage_of = [&](unsigned start) { return stages + start / Of::COLUMNS % Of::STAGES * 2 * Of::OTHER; };
    auto begin = [&](unsigned start) {
        if (start < count)
            copy_two<WIDTH, Of::COLUMNS>(k, v, count - start, stage_of(start), stage_of(start) + Of::OTHER,
                                         [&](unsigned i) { return keys.key(start + i) * shape.kv_heads() + kv_head; });
        cp_async_commit();
    };
    copy_two<WIDTH, BACK_TILE>(q, dout, rows, queries, douts, place_of);
    cp_async_commit();
    begin(0);
    const unsigned lane = threadIdx.x % WARP, of_warp = threadIdx.x / WARP * WARP_ROWS;
    uint4 own[2];
    Statistic of_row[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const unsigned row = of_warp + lane / 4 + 8 * r;
        const bool there = row < rows;
        own[r] = there ? rows_of[first_row + (row + skipped) / group] : make_uint4(0, 0, 0, 0);
        of_row[r] = {there ? lse[place_of(row)] * LOG2_E : 0.0f, there ? delta[place_of(row)] : 0.0f};
    }
    const unsigned warp_sees = warp_most(max(own[0].x, own[1].x));
    const float factor = shape.scale * LOG2_E;
    float sums[WIDTH / 8][4] = {};
    cp_async_wait<1>();
    __syncthreads();  // Queries and gradients of outputs are there.
    LeftRows<WIDTH, HELD> left_q, left_dout;
    left_q.begin(queries + of_warp * (WIDTH + PAD));
    left_dout.begin(douts + of_warp * (WIDTH + PAD));
    for (unsigned start = 0; start < count; start += Of::COLUMNS) {
        const bf16 *key_rows = stage_of(start), *value_rows = key_rows + Of::OTHER;
        if (Of::STAGES > 1) begin(start + Of::COLUMNS);
        cp_async_wait<Of::STAGES - 1>();
        __syncthreads();  // Keys and values are there.
        if (warp_sees > start) {
            float scores[Of::COLUMNS / 8][4], dp[Of::COLUMNS / 8][4];
            multiply_rows<WIDTH>(key_rows, Of::COLUMNS, left_q, scores);
            multiply_rows<WIDTH>(value_rows, Of::COLUMNS, left_dout, dp);
            weights_and_slopes(
                scores, dp, factor, [&](int j, int i) { return start + j * 8 + lane % 4 * 2 + i % 2 < own[i / 2].x; },
                [&](int) { return [&](int i) { return of_row[i / 2]; }; });
            add_weighted<WIDTH>(key_rows, Of::COLUMNS, dp, sums);
        }
        __syncthreads();  // They are done with.
        if (Of::STAGES == 1) begin(start + Of::COLUMNS);
    }
    const unsigned mine = (of_warp + lane / 4) * (WIDTH + PAD) + lane % 4 * 2;
    auto add_leaves = [&](const auto& leaves) {
        const unsigned most = warp_most(max(own[0].z - own[0].y, own[1].z - own[1].y));
        for (unsigned leaf = 0; leaf < most; leaf++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const bool sees = own[r].y + leaf < own[r].z;
                const unsigned at = own[r].y + leaf, row = mine + r * 8 * (WIDTH + PAD);
                float score = 0.0f, dp = 0.0f;
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j += 4) {
                    unsigned key[4], value[4];
                    leaves.key(at, sees, j, key);
                    leaves.value(at, sees, j, value);
                    if (!sees) continue;
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        const unsigned a = *(const unsigned*)(queries + row + (j + c) * 8);
                        const unsigned b = *(const unsigned*)(douts + row + (j + c) * 8);
                        score = fmaf(high_of(a), high_of(key[c]), fmaf(low_of(a), low_of(key[c]), score));
                        dp = fmaf(high_of(b), high_of(value[c]), fmaf(low_of(b), low_of(value[c]), dp));
                    }
                }
                score = quad_sum(score) * factor;
                dp = quad_sum(dp);
                if (!sees) continue;
                const float slope = exp2_fast(score - of_row[r].base) * (dp - of_row[r].along);
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j += 4) {
                    unsigned key[4];
                    leaves.key(at, sees, j, key);
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        sums[j + c][2 * r] = fmaf(slope, low_of(key[c]), sums[j + c][2 * r]);
                        sums[j + c][2 * r + 1] = fmaf(slope, high_of(key[c]), sums[j + c][2 * r + 1]);
                    }
                }
            }
    };
    const size_t of_head = (size_t)kv_head * hd, pitch = (size_t)shape.kv_heads() * hd;
    if (WIDTH <= 128 && hd == WIDTH && ((size_t)leaf_k | (size_t)leaf_v) % 8 == 0)
        add_leaves(LeafKeys<WIDTH, WIDTH <= 128, float>{leaf_k + of_head, leaf_v + of_head, pitch, hd});
    else
        add_leaves(LeafKeys<WIDTH, false, float>{leaf_k + of_head, leaf_v + of_head, pitch, hd});
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const unsigned row = of_warp + lane / 4 + 8 * r;
        if (row >= rows) continue;
        float* to = dq + place_of(row) * hd;
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++) {
            const unsigned d = j * 8 + lane % 4 * 2;
            if (d < hd) to[d] = sums[j][2 * r] * shape.scale;
            if (d + 1 < hd) to[d + 1] = sums[j][2 * r + 1] * shape.scale;
        }
    }
}

template <int WIDTH>
__device__ __forceinline__ void attention_back_kv(BackShape shape, const uint4* parts, const uint4* seen, const bf16* q, const bf16* dout,
                                                  const bf16* k, const bf16* v, const float* lse, const float* delta, float* part_k,
                                                  float* part_v, bf16* shared) {
    using Of = Back<WIDTH>;
    // Beside both sums both left factors have room in narrow heads alone.
    constexpr bool HELD = WIDTH <= 64;
    bf16 *key_rows = shared, *value_rows = key_rows + Of::OWN, *stages = value_rows + Of::OWN;
    uint4* masks = (uint4*)(stages + Of::STAGES * 2 * Of::OTHER);
    float *bases = (float*)(masks + Of::STAGES * Of::COLUMNS), *alongs = bases + Of::STAGES * Of::COLUMNS;
    size_t* places = (size_t*)(alongs + Of::STAGES * Of::COLUMNS);
    const uint4 part = parts[blockIdx.x];
    const unsigned group = shape.group, kv_head = blockIdx.y, first_sum = blockIdx.z * Of::SUMS;
    // Rows of the list times heads of the group.
    const unsigned columns = (part.w - part.z) * group;
    auto slot_of = [](unsigned start) { return start / Of::COLUMNS % Of::STAGES * Of::COLUMNS; };
    auto stage_of = [&](unsigned start) { return stages + slot_of(start) * 2 * (WIDTH + PAD); };
    auto listed = [&](unsigned column) { return seen + part.z + column / group; };
    // Row and head of a column, as one number. They are found two rounds ahead: where copies begin nobody waits for the list.
    auto place_of = [&](unsigned column) {
        return column < columns ? (size_t)listed(column)->x * shape.heads + kv_head * group + column % group : 0;
    };
    auto places_of = [&](unsigned start) { return places + start / Of::COLUMNS % 2 * Of::COLUMNS; };
    auto begin = [&](unsigned start) {
        if (start < columns) {
            const size_t* of = places_of(start);
            copy_two<WIDTH, Of::COLUMNS>(q, dout, columns - start, stage_of(start), stage_of(start) + Of::OTHER,
                                         [&](unsigned i) { return of[i]; });
            const unsigned i = threadIdx.x, to = slot_of(start) + i;
            if (i < Of::COLUMNS) {
                const bool there = start + i < columns;
                cp_async_16(masks + to, there ? listed(start + i) : seen, there ? 16 : 0);
                cp_async_4(bases + to, lse + of[i], there ? 4 : 0);
                cp_async_4(alongs + to, delta + of[i], there ? 4 : 0);
            }
        }
        cp_async_commit();
    };
    copy_two<WIDTH, BACK_TILE>(k, v, part.y, key_rows, value_rows,
                               [&](unsigned i) { return (size_t)(part.x + i) * shape.kv_heads() + kv_head; });
    cp_async_commit();
    if (threadIdx.x < 2 * Of::COLUMNS) places[threadIdx.x] = place_of(threadIdx.x);
    __syncthreads();  // Places of two rounds are there.
    begin(0);
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, of_warp = warp * WARP_ROWS;
    float dk[Of::SUMS / 8][4] = {}, dv[Of::SUMS / 8][4] = {};
    cp_async_wait<1>();
    __syncthreads();  // Keys and values are there.
    LeftRows<WIDTH, HELD> left_k, left_v;
    left_k.begin(key_rows + of_warp * (WIDTH + PAD));
    left_v.begin(value_rows + of_warp * (WIDTH + PAD));
    for (unsigned start = 0; start < columns; start += Of::COLUMNS) {
        const bf16 *queries = stage_of(start), *douts = queries + Of::OTHER;
        const unsigned slot = slot_of(start) + lane % 4 * 2;
        if (Of::STAGES > 1) begin(start + Of::COLUMNS);
        const size_t place = threadIdx.x < Of::COLUMNS ? place_of(start + 2 * Of::COLUMNS + threadIdx.x) : 0;
        cp_async_wait<Of::STAGES - 1>();
        __syncthreads();  // Rows, and what belongs to them, are there.
        // Bits of the lane's keys, its first at bit 0 and its second at bit 8, of each of its columns.
        unsigned bits[Of::COLUMNS / 8][2], any = 0;
#pragma unroll
        for (int j = 0; j < Of::COLUMNS / 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const unsigned mask = ((const unsigned*)(masks + slot + j * 8 + e))[1 + warp / 2];
                bits[j][e] = mask >> (warp % 2 * WARP_ROWS + lane / 4) & 0x101u;
                any |= bits[j][e];
            }
        if (ballot(any != 0) != 0) {
            float scores[Of::COLUMNS / 8][4], dp[Of::COLUMNS / 8][4];
            multiply_rows<WIDTH>(queries, Of::COLUMNS, left_k, scores);
            multiply_rows<WIDTH>(douts, Of::COLUMNS, left_v, dp);
            weights_and_slopes(
                scores, dp, shape.scale * LOG2_E, [&](int j, int i) { return (bits[j][i % 2] >> (i / 2 * 8) & 1) != 0; },
                [&](int j) {
                    const float2 base = load_word<float2>(bases + slot + j * 8), along = load_word<float2>(alongs + slot + j * 8);
                    const Statistic of[2] = {{base.x * LOG2_E, along.x}, {base.y * LOG2_E, along.y}};
                    return [of](int i) { return of[i % 2]; };
                });
            add_weighted<WIDTH>(douts + first_sum, Of::COLUMNS, scores, dv);
            add_weighted<WIDTH>(queries + first_sum, Of::COLUMNS, dp, dk);
        }
        if (threadIdx.x < Of::COLUMNS) places_of(start)[threadIdx.x] = place;
        __syncthreads();  // They are done with.
        if (Of::STAGES == 1) begin(start + Of::COLUMNS);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const unsigned row = of_warp + lane / 4 + 8 * r;
        if (row >= part.y) continue;
        const size_t to = (((size_t)blockIdx.x * BACK_TILE + row) * shape.kv_heads() + kv_head) * WIDTH + first_sum + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < Of::SUMS / 8; j++) {
            store_pair(part_k + to + j * 8, dk[j][2 * r] * shape.scale, dk[j][2 * r + 1] * shape.scale);
            store_pair(part_v + to + j * 8, dv[j][2 * r], dv[j][2 * r + 1]);
        }
    }
}

}  // namespace lea

#define BACKWARD(width)                                                                                                                \
    KERNEL(128, lea_forest_attention_bf16_backward_q_##width, unsigned heads, unsigned group, unsigned hd, float scale,                \
           const unsigned* tiles, const unsigned* rows_of, const bf16* q, const bf16* dout, const float* leaf_k, const float* leaf_v,  \
           const bf16* k, const bf16* v, const float* lse, const float* delta, float* dq) {                                            \
        DYNAMIC_SHARED(shared);                                                                                                        \
        lea::attention_back_q<width>({heads, group, hd, scale}, (const uint4*)tiles, (const uint4*)rows_of, q, dout, leaf_k, leaf_v,   \
                                     k, v, lse, delta, dq, (bf16*)shared);                                                             \
    }                                                                                                                                  \
    KERNEL(128, lea_forest_attention_bf16_backward_kv_##width, unsigned heads, unsigned group, unsigned hd, float scale,               \
           const unsigned* parts, const unsigned* seen, const bf16* q, const bf16* dout, const bf16* k, const bf16* v,                 \
           const float* lse, const float* delta, float* part_k, float* part_v) {                                                       \
        DYNAMIC_SHARED(shared);                                                                                                        \
        lea::attention_back_kv<width>({heads, group, hd, scale}, (const uint4*)parts, (const uint4*)seen, q, dout, k, v, lse, delta,   \
                                      part_k, part_v, (bf16*)shared);                                                                  \
    }

BACKWARD(32)
BACKWARD(64)
BACKWARD(96)
BACKWARD(128)
BACKWARD(256)
