// c = op(a) op(b) (+ c | + residual) (+ bias) in f32, op the identity or the transpose.
//   a [m, k], or [k, m] if transposed; b [k, n], or [n, k] if transposed; c, residual [m, n]; bias [n].
// A block makes a tile of c: 64 x 64 by 4 x 4 elements a thread, or 128 x 128 by 8 x 8 where there are tiles enough to fill the
// device; 16 of k at a time through shared memory. The sum over k runs in its order for every element, whatever the shape or
// the tile: a row's bits do not depend on the other rows.
// Bound by arithmetic (f32 FMA) once m and n fill tiles; by reads of a and b below that.
#include "common/lea.cuh"

namespace lea {

constexpr int DEPTH = 16;
constexpr int MATMUL_THREADS = 256;

// What is added to the product, as bits: what c holds, the bias, the residual.
constexpr unsigned ACCUMULATE = 1, BIAS = 2, RESIDUAL = 4;

// A slice of DEPTH of k of TILE rows of a matrix [rows, k] into shared memory [DEPTH][TILE + 4]; zeros beyond its ends.
// Neighbouring threads read neighbouring elements, whichever way it is stored.
template <int TILE, bool TRANSPOSED>
__device__ __forceinline__ void load_slice(const float* x, size_t rows, size_t k, size_t first_row, size_t first_k,
                                           float (*slice)[TILE + 4]) {
    for (int i = threadIdx.x; i < DEPTH * TILE; i += MATMUL_THREADS) {
        const int depth = TRANSPOSED ? i / TILE : i % DEPTH;
        const int row = TRANSPOSED ? i % TILE : i / DEPTH;
        const size_t r = first_row + row, at = first_k + depth;
        float value = 0.0f;
        if (r < rows && at < k) value = TRANSPOSED ? x[at * rows + r] : x[r * k + at];
        slice[depth][row] = value;
    }
}

template <int TILE, bool TRANSPOSE_A, bool TRANSPOSE_B>
__device__ __forceinline__ void matmul_tile(size_t m, size_t n, size_t k, unsigned mode, const float* a, const float* b,
                                            const float* bias, const float* residual, float* c) {
    constexpr int SIDE = 16;           // Threads along a side of the tile.
    constexpr int EACH = TILE / SIDE;  // Elements of a thread along a side: runs of four, SIDE * 4 apart.
    __shared__ __align__(16) float slice_a[DEPTH][TILE + 4];
    __shared__ __align__(16) float slice_b[DEPTH][TILE + 4];
    const size_t first_row = (size_t)blockIdx.y * TILE, first_column = (size_t)blockIdx.x * TILE;
    const int down = threadIdx.x / SIDE * 4, across = threadIdx.x % SIDE * 4;
    float sums[EACH][EACH] = {};
    for (size_t start = 0; start < k; start += DEPTH) {
        load_slice<TILE, TRANSPOSE_A>(a, m, k, first_row, start, slice_a);
        load_slice<TILE, !TRANSPOSE_B>(b, n, k, first_column, start, slice_b);
        __syncthreads();
#pragma unroll 8  // All 16 at once made the kernel of two transposed factors spill on sm_90.
        for (int depth = 0; depth < DEPTH; depth++) {
            float left[EACH], right[EACH];
#pragma unroll
            for (int run = 0; run < EACH; run += 4) {
                const float4 x = load4(&slice_a[depth][run * SIDE + down]), y = load4(&slice_b[depth][run * SIDE + across]);
                left[run] = x.x, left[run + 1] = x.y, left[run + 2] = x.z, left[run + 3] = x.w;
                right[run] = y.x, right[run + 1] = y.y, right[run + 2] = y.z, right[run + 3] = y.w;
            }
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++) sums[i][j] = fmaf(left[i], right[j], sums[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const size_t row = first_row + i / 4 * 4 * SIDE + down + i % 4;
        if (row >= m) continue;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const size_t column = first_column + j / 4 * 4 * SIDE + across + j % 4;
            if (column >= n) continue;
            float sum = sums[i][j];
            if (mode & ACCUMULATE) sum += c[row * n + column];
            if (mode & BIAS) sum += bias[column];
            if (mode & RESIDUAL) sum += residual[row * n + column];
            c[row * n + column] = sum;
        }
    }
}

}  // namespace lea

#define MATMUL(name, tile, transpose_a, transpose_b)                                                                  \
    KERNEL(256, name, size_t m, size_t n, size_t k, unsigned mode, const float* a, const float* b, const float* bias,   \
           const float* residual, float* c) {                                                                          \
        lea::matmul_tile<tile, transpose_a, transpose_b>(m, n, k, mode, a, b, bias, residual, c);                        \
    }

MATMUL(lea_matmul_nn, 64, false, false)
MATMUL(lea_matmul_nt, 64, false, true)
MATMUL(lea_matmul_tn, 64, true, false)
MATMUL(lea_matmul_tt, 64, true, true)
MATMUL(lea_matmul_large_nn, 128, false, false)
MATMUL(lea_matmul_large_nt, 128, false, true)
MATMUL(lea_matmul_large_tn, 128, true, false)
MATMUL(lea_matmul_large_tt, 128, true, true)
