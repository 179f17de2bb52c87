// c = a op(b) (+ c | + residual) (+ bias), or silu(gate) times that, on tensor cores: factors in bf16, sums in f32, c in f32 or bf16.
//   a [m, padded], bf16, zeros from k on; b [n, k] if transposed (a layer's weight), else [k, n] (its backward); c [m, n]
//   f32 or bf16; beside [m, n] f32, the residual or the gate; bias [n] f32. The rows of a and of b are multiples of 8 elements long and start at multiples of 16 bytes.
// Bound by arithmetic where m is large, by reads of b below about 200 rows. kernels/NOTES.md has the figures.
#include "common/bf16_product.cuh"

#define MATMUL(name, tile_m, tile_n, warp_side, transposed)                                                                \
    KERNEL((lea::Product<tile_m, tile_n, warp_side, transposed, false>::THREADS), name, size_t m, size_t n, size_t k,       \
           size_t padded, unsigned mode, const bf16* a, const bf16* b, const float* bias, const float* beside, void* c) { \
        lea::Product<tile_m, tile_n, warp_side, transposed, false>::run(m, n, k, padded, a, b, 0, nullptr, nullptr,         \
                                                                        lea::Epilogue(mode, bias, beside, c, n));         \
    }

MATMUL(lea_matmul_bf16_nt, 64, 64, 32, true)
MATMUL(lea_matmul_bf16_nn, 64, 64, 32, false)
MATMUL(lea_matmul_bf16_middle_nt, 128, 128, 64, true)
MATMUL(lea_matmul_bf16_middle_nn, 128, 128, 64, false)
MATMUL(lea_matmul_bf16_large_nt, 128, 256, 64, true)
MATMUL(lea_matmul_bf16_large_nn, 128, 256, 64, false)

// rounded [rows, padded] = x [rows, k], zeros from k on. A thread makes 8 elements.
KERNEL(256, lea_matmul_bf16_round, size_t rows, size_t k, size_t padded, const float* x, bf16* rounded) {
    const size_t chunk = lea::global_thread(), at = chunk * lea::CHUNK;
    if (at >= rows * padded) return;
    const size_t row = at / padded, column = at % padded;
    const float* from = x + row * k + column;
    float values[lea::CHUNK];
    if (k % lea::CHUNK == 0 && reinterpret_cast<size_t>(x) % 16 == 0) {
        const float4 low = lea::load4(from), high = lea::load4(from + 4);
        values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
        values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    } else {
        for (int i = 0; i < lea::CHUNK; i++) values[i] = column + i < k ? from[i] : 0.0f;
    }
    uint4 packed;
    packed.x = lea::pack_bf16(values[0], values[1]), packed.y = lea::pack_bf16(values[2], values[3]);
    packed.z = lea::pack_bf16(values[4], values[5]), packed.w = lea::pack_bf16(values[6], values[7]);
    *reinterpret_cast<uint4*>(rounded + at) = packed;
}

// The same of x in bf16, of which rows are no multiple of 8 long, or start at no multiple of 16 bytes. A thread copies an element.
KERNEL(256, lea_matmul_bf16_pad, size_t rows, size_t k, size_t padded, const bf16* x, bf16* rounded) {
    const size_t at = lea::global_thread(), column = at % padded;
    if (at < rows * padded) rounded[at] = column < k ? x[at / padded * k + column] : lea::to_bf16(0.0f);
}
