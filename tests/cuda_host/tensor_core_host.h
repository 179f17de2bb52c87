// What kernels/common/tensor_core.cuh stands for when kernels run on the CPU. The last lane to arrive does the work of its warp.
#pragma once

namespace lea {

inline float half_of(const unsigned* registers, int number) {
    return __uint_as_float(number % 2 ? registers[number / 2] & 0xffff0000u : registers[number / 2] << 16);
}

struct Mma { float* d; const unsigned *a, *b; };

// Sums over k in f32, term by term in order. Tensor cores add exact products in an order of their own.
inline void mma_warp(void* const* lanes) {
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const Mma& mine = *(const Mma*)lanes[lane];
        const int group = lane / 4, in_group = lane % 4;
        for (int i = 0; i < 8; i++)
            a[i % 4 < 2 ? group : group + 8][in_group * 2 + i % 2 + (i < 4 ? 0 : 8)] = half_of(mine.a, i);
        for (int i = 0; i < 4; i++) b[in_group * 2 + i % 2 + (i < 2 ? 0 : 8)][group] = half_of(mine.b, i);
        for (int i = 0; i < 4; i++) d[i < 2 ? group : group + 8][in_group * 2 + i % 2] = mine.d[i];
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) ((Mma*)lanes[lane])->d[i] = d[i < 2 ? lane / 4 : lane / 4 + 8][lane % 4 * 2 + i % 2];
}
inline void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    Mma mine{d, a, b};
    cuda_host::warp("mma.m16n8k16", &mine, mma_warp);
}

struct Ldmatrix { const void* row; unsigned* to; };

template <int MATRICES, bool TRANSPOSED>
inline void ldmatrix_warp(void* const* lanes) {
    for (int matrix = 0; matrix < MATRICES; matrix++) {
        uint16_t elements[8][8];
        for (int row = 0; row < 8; row++) memcpy(elements[row], ((Ldmatrix*)lanes[matrix * 8 + row])->row, 16);
        for (int lane = 0; lane < 32; lane++) {
            const int group = lane / 4, pair = lane % 4 * 2;
            const unsigned low = TRANSPOSED ? elements[pair][group] : elements[group][pair];
            const unsigned high = TRANSPOSED ? elements[pair + 1][group] : elements[group][pair + 1];
            ((Ldmatrix*)lanes[lane])->to[matrix] = low | high << 16;
        }
    }
}
template <int MATRICES, bool TRANSPOSED>
inline void ldmatrix(const char* operation, unsigned* to, const void* row) {
    cuda_host::expect_aligned(row, 16);
    Ldmatrix mine{row, to};
    cuda_host::warp(operation, &mine, ldmatrix_warp<MATRICES, TRANSPOSED>);
}
inline void ldmatrix_x4(unsigned (&to)[4], const void* row) { ldmatrix<4, false>("ldmatrix.x4", to, row); }
inline void ldmatrix_x4_trans(unsigned (&to)[4], const void* row) { ldmatrix<4, true>("ldmatrix.x4.trans", to, row); }
inline void ldmatrix_x2(unsigned (&to)[2], const void* row) { ldmatrix<2, false>("ldmatrix.x2", to, row); }
inline void ldmatrix_x2_trans(unsigned (&to)[2], const void* row) { ldmatrix<2, true>("ldmatrix.x2.trans", to, row); }

inline void cp_async_16(void* to, const void* from, unsigned bytes = 16) { cuda_host::copy_async(to, from, 16, bytes); }
inline void cp_async_4(void* to, const void* from, unsigned bytes = 4) { cuda_host::copy_async(to, from, 4, bytes); }
inline void cp_async_commit() { cuda_host::copy_commit(); }
template <int PENDING>
inline void cp_async_wait() {
    cuda_host::copy_wait(PENDING);
}

inline float exp2_fast(float x) {
    const float power = exp2f(x);
    return power < 1.17549435e-38f ? 0.0f : power;
}

inline void warp_sync() { ballot(true); }

}  // namespace lea
