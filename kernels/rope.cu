// Rotary position embedding: the pair (x_i, x_{i + half}) of every head turns by the row's position times frequency i.
//   x [rows, heads 2 half]; y the same, f32 or bf16; positions [rows]; cosines, sines [positions, half]; sign -1 turns back.
// One thread four pairs, neighbours in a head where its half is a multiple of four. Bound by memory: one read of x, one write of y.
#include "common/four.cuh"

namespace lea {

template <class TO>
__device__ __forceinline__ void rope(size_t pairs, size_t heads, size_t half, float sign, const float* x,
                                     const unsigned* positions, const float* cosines, const float* sines, TO* y) {
    const size_t first = 4 * global_thread();
    if (first >= pairs) return;
    const auto low = [=](float a, float b, float cosine, float sine) { return a * cosine - b * (sign * sine); };
    const auto high = [=](float a, float b, float cosine, float sine) { return b * cosine + a * (sign * sine); };
    if (half % 4 == 0 && four_aligned(x) && four_aligned(y) && four_aligned(cosines) && four_aligned(sines)) {
        const size_t head = first / half, i = first % half;
        const size_t angle = positions[head / heads] * half + i, at = head * 2 * half + i;
        const float4 c = load4(cosines + angle), s = load4(sines + angle), a = load4(x + at), b = load4(x + at + half);
        const auto turned = [&](auto f) {
            return make_float4(f(a.x, b.x, c.x, s.x), f(a.y, b.y, c.y, s.y), f(a.z, b.z, c.z, s.z), f(a.w, b.w, c.w, s.w));
        };
        store_four(y + at, turned(low));
        store_four(y + at + half, turned(high));
        return;
    }
    for (size_t pair = first; pair < pairs && pair < first + 4; pair++) {
        const size_t head = pair / half, i = pair % half;
        const size_t angle = positions[head / heads] * half + i, at = head * 2 * half + i;
        store_one(y + at, low(x[at], x[at + half], cosines[angle], sines[angle]));
        store_one(y + at + half, high(x[at], x[at + half], cosines[angle], sines[angle]));
    }
}

}  // namespace lea

KERNEL(256, lea_rope_rotate, size_t pairs, size_t heads, size_t half, float sign, const float* x, const unsigned* positions,
       const float* cosines, const float* sines, float* y) {
    lea::rope(pairs, heads, half, sign, x, positions, cosines, sines, y);
}

KERNEL(256, lea_rope_rotate_bf16, size_t pairs, size_t heads, size_t half, float sign, const float* x, const unsigned* positions,
       const float* cosines, const float* sines, bf16* y) {
    lea::rope(pairs, heads, half, sign, x, positions, cosines, sines, y);
}
