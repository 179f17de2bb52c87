// What stands around the products of forest_attention_bf16_backward.cu, whose layouts are told there, on plain cores.
//   prepare: q and dout of a row and head rounded to bf16, zeros from hd on, and delta = sum over a head of the rounded dout times out. One warp.
//     Behind those, a warp for k and v of a shared key and key head: `listed` are the keys that tiles share.
//   keys: dk, dv [keys, kv_heads hd] of a key and key head: the sums of its parts in their order, then of the rows that see it as a leaf key, in
//     f32 of the rounded values, one after the other. One warp. of_keys [keys, 4]: its row of part_k in its first part, how many parts, rows in
//     leaf_rows from, to.
// Bound by memory: 16 hd bytes a row and head, 12 hd a shared key; 4 hd bytes a row and head that sees a leaf key, 8 WIDTH a key and part, 8 hd a key.
#include "common/attention_products.cuh"

namespace lea {

// Elements d and d + 1 of a row of hd, zeros from its end on; `whole`: no pair reaches over it, and all begin at a multiple of 8 bytes.
__device__ __forceinline__ float2 two_of(const float* row, unsigned d, unsigned hd, bool whole) {
    if (whole) return d < hd ? load_word<float2>(row + d) : make_float2(0.0f, 0.0f);
    return make_float2(d < hd ? row[d] : 0.0f, d + 1 < hd ? row[d + 1] : 0.0f);
}

// The reverse; nothing from its end on.
__device__ __forceinline__ void put_two(float* row, unsigned d, unsigned hd, float2 x) {
    if (d < hd) row[d] = x.x;
    if (d + 1 < hd) row[d + 1] = x.y;
}

template <int WIDTH>
__device__ __forceinline__ void attention_back_keys(size_t len, BackShape shape, const uint4* of_keys, const unsigned* leaf_rows,
                                                    const bf16* q, const bf16* dout, const float* k, const float* v, const float* lse,
                                                    const float* delta, const float* part_k, const float* part_v, float* dk, float* dv) {
    constexpr unsigned PAIRS = (WIDTH / 2 + WARP - 1) / WARP;  // Of a lane.
    const size_t i = global_thread() / WARP;
    if (i >= len) return;
    const unsigned kv_head = i % shape.kv_heads(), hd = shape.hd, lane = threadIdx.x % WARP;
    const uint4 of_key = of_keys[i / shape.kv_heads()];
    auto first_of = [&](unsigned pair) { return (pair * WARP + lane) * 2; };
    float2 to_k[PAIRS] = {}, to_v[PAIRS] = {};
    for (unsigned part = 0; part < of_key.y; part++) {
        const size_t row = ((of_key.x + (size_t)part * BACK_TILE) * shape.kv_heads() + kv_head) * WIDTH;
#pragma unroll
        for (unsigned pair = 0; pair < PAIRS; pair++) {
            if (first_of(pair) >= WIDTH) continue;
            const float2 of_k = load_word<float2>(part_k + row + first_of(pair)), of_v = load_word<float2>(part_v + row + first_of(pair));
            to_k[pair] = make_float2(to_k[pair].x + of_k.x, to_k[pair].y + of_k.y);
            to_v[pair] = make_float2(to_v[pair].x + of_v.x, to_v[pair].y + of_v.y);
        }
    }
    unsigned key[PAIRS] = {}, value[PAIRS] = {};
    if (of_key.z < of_key.w)
#pragma unroll
        for (unsigned pair = 0; pair < PAIRS; pair++) {
            key[pair] = bf16_pair(k + i * hd, first_of(pair), hd);
            value[pair] = bf16_pair(v + i * hd, first_of(pair), hd);
        }
    for (unsigned at = of_key.z; at < of_key.w; at++)
        for (unsigned head = 0; head < shape.group; head++) {
            const size_t place = (size_t)leaf_rows[at] * shape.heads + kv_head * shape.group + head;
            unsigned a[PAIRS] = {}, b[PAIRS] = {};
            float score = 0.0f, dp = 0.0f;
#pragma unroll
            for (unsigned pair = 0; pair < PAIRS; pair++) {
                if (first_of(pair) >= WIDTH) continue;
                a[pair] = load_word<unsigned>(q + place * WIDTH + first_of(pair));
                b[pair] = load_word<unsigned>(dout + place * WIDTH + first_of(pair));
                score = fmaf(high_of(a[pair]), high_of(key[pair]), fmaf(low_of(a[pair]), low_of(key[pair]), score));
                dp = fmaf(high_of(b[pair]), high_of(value[pair]), fmaf(low_of(b[pair]), low_of(value[pair]), dp));
            }
            const float weight = exp2_fast(warp_sum(score) * (shape.scale * LOG2_E) - lse[place] * LOG2_E);
            const float slope = weight * (warp_sum(dp) - delta[place]) * shape.scale;
#pragma unroll
            for (unsigned pair = 0; pair < PAIRS; pair++) {
                to_k[pair] = make_float2(fmaf(slope, low_of(a[pair]), to_k[pair].x), fmaf(slope, high_of(a[pair]), to_k[pair].y));
                to_v[pair] = make_float2(fmaf(weight, low_of(b[pair]), to_v[pair].x), fmaf(weight, high_of(b[pair]), to_v[pair].y));
            }
        }
#pragma unroll
    for (unsigned pair = 0; pair < PAIRS; pair++) {
        put_two(dk + i * hd, first_of(pair), hd, to_k[pair]);
        put_two(dv + i * hd, first_of(pair), hd, to_v[pair]);
    }
}

}  // namespace lea

// `len` rows and heads, then shared keys and key heads, `warps` in all; `width`: that of rounded heads.
KERNEL(256, lea_forest_attention_bf16_backward_prepare, size_t warps, size_t len, unsigned kv_heads, unsigned hd, unsigned width,
       const float* q, const float* out, const float* dout, const unsigned* listed, const float* k, const float* v, unsigned* rounded_q,
       unsigned* rounded_dout, float* delta, unsigned* rounded_k, unsigned* rounded_v) {
    const size_t i = lea::global_thread() / lea::WARP;
    if (i >= warps) return;
    const bool of_row = i < len, whole = hd % 2 == 0 && (((size_t)q | (size_t)out | (size_t)dout | (size_t)k | (size_t)v) & 7) == 0;
    const size_t key = i - len, to = (of_row ? i : key) * (width / 2);
    const size_t from = (of_row ? i : (size_t)listed[key / kv_heads] * kv_heads + key % kv_heads) * hd;
    const float *one = of_row ? q : k, *other = of_row ? dout : v;
    unsigned *to_one = of_row ? rounded_q : rounded_k, *to_other = of_row ? rounded_dout : rounded_v;
    float sum = 0.0f;
    for (unsigned pair = threadIdx.x % lea::WARP; pair < width / 2; pair += lea::WARP) {
        const float2 x = lea::two_of(one + from, pair * 2, hd, whole), y = lea::two_of(other + from, pair * 2, hd, whole);
        const unsigned rounded = lea::pack_bf16(y.x, y.y);
        to_one[to + pair] = lea::pack_bf16(x.x, x.y);
        to_other[to + pair] = rounded;
        if (!of_row) continue;
        const float2 of_out = lea::two_of(out + from, pair * 2, hd, whole);
        sum = fmaf(lea::high_of(rounded), of_out.y, fmaf(lea::low_of(rounded), of_out.x, sum));
    }
    sum = lea::warp_sum(sum);
    if (of_row && threadIdx.x % lea::WARP == 0) delta[i] = sum;
}

#define KEYS_OF(width)                                                                                                                 \
    KERNEL(256, lea_forest_attention_bf16_backward_keys_##width, size_t len, unsigned heads, unsigned group, unsigned hd, float scale, \
           const unsigned* of_keys, const unsigned* leaf_rows, const bf16* q, const bf16* dout, const float* k, const float* v,        \
           const float* lse, const float* delta, const float* part_k, const float* part_v, float* dk, float* dv) {                     \
        lea::attention_back_keys<width>(len, {heads, group, hd, scale}, (const uint4*)of_keys, leaf_rows, q, dout, k, v, lse, delta,   \
                                        part_k, part_v, dk, dv);                                                                       \
    }

KEYS_OF(32)
KEYS_OF(64)
KEYS_OF(96)
KEYS_OF(128)
KEYS_OF(256)
