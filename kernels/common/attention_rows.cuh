// The running softmax of rows on tensor cores. A warp has 16 rows; with g = lane / 4 and t = lane % 4 a lane holds, as products leave
// them, columns 8j + 2t and 8j + 2t + 1 of rows g ([j][0], [j][1]) and g + 8 ([j][2], [j][3]), of scores and of outputs.
#pragma once
#include "tensor_core.cuh"

namespace lea {

constexpr float LOG2_E = 1.44269504f;
constexpr float LN_2 = 0.69314718f;

// The two bf16 of a word.
__device__ __forceinline__ float low_of(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_of(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

// Sum over the four lanes that hold a row.
__device__ __forceinline__ float quad_sum(float value) {
    value += shuffle_xor(value, 1);
    return value + shuffle_xor(value, 2);
}
__device__ __forceinline__ float quad_max(float value) {
    value = fmaxf(value, shuffle_xor(value, 1));
    return fmaxf(value, shuffle_xor(value, 2));
}
__device__ __forceinline__ unsigned warp_most(unsigned value) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) value = max(value, shuffle_xor(value, mask));
    return value;
}

// What a lane holds of its two rows: running highest score (times log2 e) and sum, and outputs.
template <int WIDTH>
struct Rows {
    float most[2], total[2];
    float out[WIDTH / 8][4];

    __device__ __forceinline__ void begin() {
        for (int r = 0; r < 2; r++) most[r] = -INFINITY, total[r] = 0.0f;
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++)
            for (int i = 0; i < 4; i++) out[j][i] = 0.0f;
    }

    // Takes in that row r has a score `highest`; what scores are to be lessened by. Nothing changes where it is not higher.
    __device__ __forceinline__ float raise(int r, float highest) {
        const float raised = fmaxf(most[r], highest);
        const float base = raised == -INFINITY ? 0.0f : raised;
        const float factor = exp2f(most[r] - base);
        most[r] = raised;
        total[r] *= factor;
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++) {
            out[j][2 * r] *= factor;
            out[j][2 * r + 1] *= factor;
        }
        return base;
    }

    // Log-sum-exp of a row's scores.
    __device__ __forceinline__ float log_sum(int r) const { return most[r] * LN_2 + logf(total[r]); }
};

// Scores become weights, 0 where row r does not see a column: `sees(column, r)`. Outputs are lessened as the softmax asks.
template <int WIDTH, int COLUMNS, class Sees>
__device__ __forceinline__ void weigh(float (&scores)[COLUMNS][4], float factor, Rows<WIDTH>& rows, Sees sees) {
    const unsigned first = threadIdx.x % 4 * 2;
    float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[j][i] = sees(first + j * 8 + i % 2, i / 2) ? scores[j][i] * factor : -INFINITY;
            highest[i / 2] = fmaxf(highest[i / 2], scores[j][i]);
        }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float base = rows.raise(r, quad_max(highest[r]));
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                scores[j][i] = exp2f(scores[j][i] - base);
                rows.total[r] += scores[j][i];
            }
    }
}

// Weights of columns 16 `block` and on, rounded: the left factor of their values.
template <int COLUMNS>
__device__ __forceinline__ void pack_weights(const float (&weights)[COLUMNS][4], int block, unsigned (&to)[4]) {
    const float(&low)[4] = weights[2 * block];
    const float(&high)[4] = weights[2 * block + 1];
    to[0] = pack_bf16(low[0], low[1]);
    to[1] = pack_bf16(low[2], low[3]);
    to[2] = pack_bf16(high[0], high[1]);
    to[3] = pack_bf16(high[2], high[3]);
}

// Leaf keys and values of a key head in f32, in rows of `pitch` elements from one key to the next. WHOLE: heads are WIDTH wide, and
// pairs at multiples of 8 bytes.
template <int WIDTH, bool WHOLE>
struct LeafKeys {
    const float *k, *v;
    size_t pitch;
    unsigned hd;

    // Elements d and d + 1 of a row, rounded; zeros from hd on.
    __device__ __forceinline__ unsigned pair(const float* row, unsigned d) const {
        if (WHOLE) {
            const float2 both = *reinterpret_cast<const float2*>(row + d);
            return pack_bf16(both.x, both.y);
        }
        return pack_bf16(d < hd ? row[d] : 0.0f, d + 1 < hd ? row[d + 1] : 0.0f);
    }
};

// A row's own leaf keys (`own[r].y` to `own[r].z`), one after the other, by f32 sums of products of the rounded values. `query(r, j)` gives the
// lane's columns of block j of 8.
template <int WIDTH, bool WHOLE, class Query>
__device__ __forceinline__ void add_leaf(const LeafKeys<WIDTH, WHOLE>& keys, Query query, float factor, const uint4 (&own)[2],
                                         Rows<WIDTH>& rows) {
    const unsigned first = threadIdx.x % 4 * 2;
    const unsigned most = warp_most(max(own[0].z - own[0].y, own[1].z - own[1].y));
    for (unsigned i = 0; i < most; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const bool sees = own[r].y + i < own[r].z;
            const size_t at = (own[r].y + i) * keys.pitch;
            float score = 0.0f;
            if (sees)
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j++) {
                    const unsigned a = query(r, j);
                    const unsigned b = keys.pair(keys.k + at, j * 8 + first);
                    score = fmaf(low_of(a), low_of(b), score);
                    score = fmaf(high_of(a), high_of(b), score);
                }
            score = quad_sum(score) * factor;
            if (!sees) continue;
            const float weight = exp2f(score - rows.raise(r, score));
            rows.total[r] += weight;
#pragma unroll
            for (int j = 0; j < WIDTH / 8; j++) {
                const unsigned b = keys.pair(keys.v + at, j * 8 + first);
                rows.out[j][2 * r] = fmaf(weight, low_of(b), rows.out[j][2 * r]);
                rows.out[j][2 * r + 1] = fmaf(weight, high_of(b), rows.out[j][2 * r + 1]);
            }
        }
}

}  // namespace lea
