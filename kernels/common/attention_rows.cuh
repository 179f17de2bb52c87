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

// Two elements from the address of a pair, rounded where they are not bf16 already.
__device__ __forceinline__ unsigned bf16_pair(const float* from) {
    const float2 both = *reinterpret_cast<const float2*>(from);
    return pack_bf16(both.x, both.y);
}
__device__ __forceinline__ unsigned bf16_pair(const bf16* from) { return *reinterpret_cast<const unsigned*>(from); }
// Elements d and d + 1 of a row from any address; zeros from hd on.
template <class T>
__device__ __forceinline__ unsigned bf16_pair(const T* row, unsigned d, unsigned hd) {
    return pack_bf16(d < hd ? to_float(row[d]) : 0.0f, d + 1 < hd ? to_float(row[d + 1]) : 0.0f);
}

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

    // Takes in that rows have scores `highest`. Nothing changes where they are not higher. All lanes of the warp.
    __device__ __forceinline__ void raise(const float (&highest)[2]) {
        bool raised[2];
        for (int r = 0; r < 2; r++) raised[r] = highest[r] > most[r];
        if (ballot(raised[0] || raised[1]) == 0) return;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float factor = raised[r] ? exp2_fast(most[r] - highest[r]) : 1.0f;
            if (raised[r]) most[r] = highest[r];
            total[r] *= factor;
#pragma unroll
            for (int j = 0; j < WIDTH / 8; j++) {
                out[j][2 * r] *= factor;
                out[j][2 * r + 1] *= factor;
            }
        }
    }

    // Log-sum-exp of a row's scores.
    __device__ __forceinline__ float log_sum(int r) const { return most[r] * LN_2 + logf(total[r]); }
};

// Scores become weights, 0 where row r does not see a column: `sees(column, r)`; times `factor` they are those times log2 e. Outputs are
// lessened as the softmax asks.
template <int WIDTH, int COLUMNS, class Sees>
__device__ __forceinline__ void weigh(float (&scores)[COLUMNS][4], float factor, Rows<WIDTH>& rows, Sees sees) {
    const unsigned first = threadIdx.x % 4 * 2;
    float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[j][i] = sees(first + j * 8 + i % 2, i / 2) ? scores[j][i] : -INFINITY;
            highest[i / 2] = fmaxf(highest[i / 2], scores[j][i]);
        }
    rows.raise({quad_max(highest[0]) * factor, quad_max(highest[1]) * factor});
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float base = rows.most[r] == -INFINITY ? 0.0f : rows.most[r];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                scores[j][i] = exp2_fast(fmaf(scores[j][i], factor, -base));
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

// Leaf keys and values of a key head, in rows of `pitch` elements from one key to the next. WHOLE: heads are WIDTH wide, and pairs at
// multiples of their bytes.
template <int WIDTH, bool WHOLE, class T>
struct LeafKeys {
    const T *k, *v;
    size_t pitch;
    unsigned hd;

    // The lane's columns of blocks of 8, from `block` on, of a key and of a value, rounded; zeros from hd on. Where the row does not see it,
    // anything.
    __device__ __forceinline__ unsigned place(unsigned at, bool) const { return at; }
    __device__ __forceinline__ void key(unsigned at, bool sees, int block, unsigned (&to)[4]) const { four(k, at, sees, block, to); }
    __device__ __forceinline__ void value(unsigned at, bool sees, int block, unsigned (&to)[4]) const { four(v, at, sees, block, to); }

    __device__ __forceinline__ void four(const T* from, unsigned at, bool sees, int block, unsigned (&to)[4]) const {
        if (!sees) return;
        const T* row = from + at * pitch;
        const unsigned d = block * 8 + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < 4; i++) to[i] = WHOLE ? bf16_pair(row + d + i * 8) : bf16_pair(row, d + i * 8, hd);
    }
};

// A row's own leaf keys (`own[r].y` to `own[r].z`), one after the other, by f32 sums of products of the rounded values. `query(r, j)` gives the
// lane's columns of block j of 8. All lanes of the warp.
template <int WIDTH, class Keys, class Query>
__device__ __forceinline__ void add_leaf(const Keys& keys, Query query, float factor, const uint4 (&own)[2], Rows<WIDTH>& rows) {
    const unsigned most = warp_most(max(own[0].z - own[0].y, own[1].z - own[1].y));
    // Two rows at a time have twice as many reads on their way, where there are registers for them.
    constexpr int AT_A_TIME = WIDTH <= 128 ? 2 : 1;
    for (unsigned i = 0; i < most; i++)
#pragma unroll
        for (int from = 0; from < 2; from += AT_A_TIME) {
            float scores[2] = {-INFINITY, -INFINITY};
            decltype(keys.place(0, true)) places[2];
#pragma unroll
            for (int r = from; r < from + AT_A_TIME; r++) {
                const bool sees = own[r].y + i < own[r].z;
                float score = 0.0f;
                places[r] = keys.place(own[r].y + i, sees);
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j += 4) {
                    unsigned key[4];
                    keys.key(places[r], sees, j, key);
                    if (!sees) continue;
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        const unsigned a = query(r, j + c);
                        score = fmaf(low_of(a), low_of(key[c]), score);
                        score = fmaf(high_of(a), high_of(key[c]), score);
                    }
                }
                score = quad_sum(score) * factor;
                if (sees) scores[r] = score;
            }
            rows.raise(scores);
#pragma unroll
            for (int r = from; r < from + AT_A_TIME; r++) {
                const bool sees = own[r].y + i < own[r].z;
                const float weight = sees ? exp2_fast(scores[r] - rows.most[r]) : 0.0f;
                rows.total[r] += weight;
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j += 4) {
                    unsigned value[4];
                    keys.value(places[r], sees, j, value);
                    if (!sees) continue;
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        rows.out[j + c][2 * r] = fmaf(weight, low_of(value[c]), rows.out[j + c][2 * r]);
                        rows.out[j + c][2 * r + 1] = fmaf(weight, high_of(value[c]), rows.out[j + c][2 * r + 1]);
                    }
                }
            }
        }
}

// Of four lanes each gives four words, one to each of them in turn, and gets the four given to it, in the order of the givers.
__device__ __forceinline__ void quad_transpose(unsigned (&words)[4]) {
    const unsigned lane = threadIdx.x;
#pragma unroll
    for (int mask = 1; mask < 4; mask *= 2)
#pragma unroll
        for (int low = 0; low < 4; low++) {
            if (low & mask) continue;
            const int high = low | mask;
            const bool upper = lane & mask;
            const unsigned got = shuffle_xor(upper ? words[low] : words[high], mask);
            if (upper)
                words[low] = got;
            else
                words[high] = got;
        }
}

// The lane's part of the outputs of row r, times `inverse`, rounded, to a row of hd elements at a multiple of 16 bytes, 16 bytes a lane at a
// time: hd is a multiple of 8. All lanes of the warp; nothing is written where the row is not `there`.
template <int WIDTH>
__device__ __forceinline__ void store_rounded(const Rows<WIDTH>& rows, int r, float inverse, bf16* to, unsigned hd, bool there) {
#pragma unroll
    for (int first = 0; first < WIDTH / 8; first += 4) {
        unsigned words[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            words[i] = pack_bf16(rows.out[first + i][2 * r] * inverse, rows.out[first + i][2 * r + 1] * inverse);
        quad_transpose(words);
        const unsigned d = (first + threadIdx.x % 4) * 8;
        if (there && d < hd) *reinterpret_cast<uint4*>(to + d) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

}  // namespace lea
