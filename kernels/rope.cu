// Rotary position embedding: the pair (x_i, x_{i + half}) of every head turns by the row's position times frequency i.
//   x, y [rows, heads 2 half]; positions [rows]; cosines, sines [positions, half]; sign -1 turns back.
// One thread a pair. Bound by memory: one read of x, one write of y.
#include "common/lea.cuh"

KERNEL(256, lea_rope_rotate, size_t pairs, size_t heads, size_t half, float sign, const float* x, const unsigned* positions,
       const float* cosines, const float* sines, float* y) {
    const size_t pair = lea::global_thread();
    if (pair >= pairs) return;
    const size_t head = pair / half, i = pair % half;
    const size_t angle = positions[head / heads] * half + i;
    const float cosine = cosines[angle], sine = sign * sines[angle];
    const size_t at = head * 2 * half + i;
    const float a = x[at], b = x[at + half];
    y[at] = a * cosine - b * sine;
    y[at + half] = b * cosine + a * sine;
}
