// c = a op(b) + a2 op(b2) (+ c | + residual) (+ bias) on tensor cores: the products of matmul_bf16.cu, and of a second pair of factors.
//   a2 [m, k2] and b2, stored as b, in bf16: what a low-rank adapter adds to its projection, in pieces (low_rank.cu). k2 is a
//   multiple of 8. Their slices follow those of a and b: c is written once. k2 of k + k2 more time: 48 of 2048 at rank 8.
#include "common/bf16_product.cuh"

#define MATMUL(name, tile_m, tile_n, warp_side, transposed)                                                                \
    KERNEL((lea::Product<tile_m, tile_n, warp_side, transposed, true>::THREADS), name, size_t m, size_t n, size_t k,        \
           size_t padded, unsigned mode, const bf16* a, const bf16* b, const float* bias, const float* beside, void* c,   \
           size_t k2, const bf16* a2, const bf16* b2) {                                                                    \
        lea::Product<tile_m, tile_n, warp_side, transposed, true>::run(m, n, k, padded, a, b, k2, a2, b2,                   \
                                                                       lea::Epilogue(mode, bias, beside, c, n));          \
    }

MATMUL(lea_matmul_bf16_paired_nt, 64, 64, 32, true)
MATMUL(lea_matmul_bf16_paired_nn, 64, 64, 32, false)
MATMUL(lea_matmul_bf16_paired_middle_nt, 128, 128, 64, true)
MATMUL(lea_matmul_bf16_paired_middle_nn, 128, 128, 64, false)
MATMUL(lea_matmul_bf16_paired_large_nt, 128, 256, 64, true)
MATMUL(lea_matmul_bf16_paired_large_nn, 128, 256, 64, false)
