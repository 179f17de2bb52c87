// c = a op(b) (+ c | + residual) (+ bias), or silu(gate) times that, on tensor cores: factors in bf16, sums in f32, c in f32 or bf16.
//   a [m, padded], bf16, zeros from k on; b [n, k] if transposed (a layer's weight), else [k, n] (its backward); c [m, n]
//   f32 or bf16; beside [m, n] f32, the residual or the gate; bias [n] f32. The rows of a and of b are multiples of 8 elements long and start at multiples of 16 bytes.
// A block makes a tile of c, each of its warps 64 x 64 of it (32 x 32 of the small tile), 32 of k at a time. Slices of a and b come by
// cp.async into a ring of STAGES stages; their chunks of 16 bytes are swapped by bits of the row, so that the 8 rows that ldmatrix reads at
// once lie in different banks. Steps of 16 of k, one mma.m16n8k16 after the other: the bits of a row depend
// neither on the other rows nor on the tile.
// Tiles run in bands of BAND tiles of rows, so that blocks that run together read the same parts of a and b from L2.
// Bound by arithmetic where m is large, by reads of b below about 200 rows. kernels/NOTES.md has the figures.
#include "common/epilogue.cuh"
#include "common/tensor_core.cuh"

namespace lea {

constexpr int SLICE = 32;  // Of k, in a stage.
constexpr int CHUNK = 8;   // Elements in 16 bytes.
constexpr int STAGES = 4;
constexpr unsigned BAND = 8;

// How a block's threads bring slices of ROWS rows and COLUMNS columns of a matrix to shared memory, a power of two of each. In
// a slice the chunks of a row are swapped: where a row has 4 (two rows fill the banks) by its second bit on, else by its first.
template <int ROWS, int COLUMNS, int THREADS>
struct Loader {
    static constexpr int CHUNKS = COLUMNS / CHUNK;
    static constexpr int STRIDE = THREADS / CHUNKS;  // Rows between two chunks of a thread: a multiple of 8, so alike swapped.
    static constexpr int EACH = ROWS / STRIDE;
    static constexpr int ELEMENTS = ROWS * COLUMNS;
    static_assert(STRIDE % 8 == 0 && ROWS % STRIDE == 0, "every thread copies as many chunks, of alike rows");

    const bf16* from[EACH];
    int row, chunk;

    // Place of a chunk in the slice.
    static __device__ __forceinline__ int place(int row, int chunk) {
        return row * COLUMNS + (chunk ^ (CHUNKS == 4 ? row / 2 % 4 : row % 8)) * CHUNK;
    }

    // Of x [rows, columns]. Beyond its ends stands a copy of its last row or columns: sums over them are never stored.
    __device__ __forceinline__ Loader(const bf16* x, size_t rows, size_t columns, size_t first_row, size_t first_column)
        : row(threadIdx.x / CHUNKS), chunk(threadIdx.x % CHUNKS) {
        const size_t column = min(first_column + chunk * CHUNK, columns - CHUNK);
#pragma unroll
        for (int i = 0; i < EACH; i++) from[i] = x + min(first_row + row + i * STRIDE, rows - 1) * columns + column;
    }

    // Starts the copy of the next slice, `step` elements on. Of the direction that k runs in, `left` are there, and zeros come
    // after them.
    template <bool ALONG_ROWS>
    __device__ __forceinline__ void load(bf16* slice, int left, size_t step) {
        bf16* const to = slice + place(row, chunk);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const bool inside = ALONG_ROWS ? chunk * CHUNK < left : row + i * STRIDE < left;
            cp_async_16(to + i * STRIDE * COLUMNS, from[i], inside ? 16 : 0);
            from[i] += step;
        }
    }
};

template <int TILE_M, int TILE_N, int WARP_SIDE, bool TRANSPOSED>
struct Product {
    static constexpr int WARPS_N = TILE_N / WARP_SIDE;
    static constexpr int THREADS = TILE_M / WARP_SIDE * WARPS_N * WARP;
    static constexpr int DOWN = WARP_SIDE / 16, ACROSS = WARP_SIDE / 8;  // Tiles of mma of a warp.
    static constexpr int STEPS = SLICE / 16;
    using A = Loader<TILE_M, SLICE, THREADS>;
    using B = Loader<TRANSPOSED ? TILE_N : SLICE, TRANSPOSED ? SLICE : TILE_N, THREADS>;
    static constexpr int STAGE = A::ELEMENTS + B::ELEMENTS;

    // A warp's parts of a and b for a step of 16 of k.
    struct Fragments {
        unsigned a[DOWN][4], b[ACROSS][2];

        // The `step`th of a stage; the warp's tile starts at `row` and `column`.
        __device__ __forceinline__ void load(const bf16* stage, int step, int row, int column) {
            const int lane = threadIdx.x % WARP;
            // Matrices in the order of the fragments: both halves of k of 8 columns of c, then of the next 8.
            const int half = lane / 8 % 2, eight = lane / 16;
            const bf16* slice = stage + A::ELEMENTS;
#pragma unroll
            for (int i = 0; i < DOWN; i++) ldmatrix_x4(a[i], stage + A::place(row + lane % 16, step * 2 + lane / 16) + i * 16 * SLICE);
#pragma unroll
            for (int j = 0; j < ACROSS; j += 2) {
                unsigned four[4];
                if (TRANSPOSED)
                    ldmatrix_x4(four, slice + B::place(column + eight * 8 + lane % 8, step * 2 + half) + j * 8 * SLICE);
                else
                    ldmatrix_x4_trans(four, slice + B::place(half * 8 + lane % 8, column / CHUNK + (j | eight)) + step * 16 * TILE_N);
                b[j][0] = four[0], b[j][1] = four[1], b[j + 1][0] = four[2], b[j + 1][1] = four[3];
            }
        }

        __device__ __forceinline__ void add_product(float (&sums)[DOWN][ACROSS][4]) const {
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++) mma_m16n8k16(sums[i][j], a[i], b[j]);
        }
    };

    static __device__ __forceinline__ void run(size_t m, size_t n, size_t k, size_t padded, const bf16* a, const bf16* b,
                                               const Epilogue& epilogue) {
        DYNAMIC_SHARED(memory);
        bf16* const ring = reinterpret_cast<bf16*>(memory);
        const unsigned down = (m + TILE_M - 1) / TILE_M, across = (n + TILE_N - 1) / TILE_N;
        const unsigned band = blockIdx.x / (BAND * across), in_band = blockIdx.x % (BAND * across);
        const unsigned height = min(BAND, down - band * BAND);
        const size_t first_row = (size_t)(band * BAND + in_band % height) * TILE_M, first_column = (size_t)(in_band / height) * TILE_N;
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const int row = warp / WARPS_N * WARP_SIDE, column = warp % WARPS_N * WARP_SIDE;

        A load_a(a, m, padded, first_row, 0);
        B load_b(b, TRANSPOSED ? n : k, TRANSPOSED ? k : n, TRANSPOSED ? first_column : 0, TRANSPOSED ? 0 : first_column);
        // What is left of k, of the next slice to load and of the one in work.
        int to_load = (int)k, left = (int)k;
        int filled = 0, stage = 0;
        const auto load = [&] {
            if (to_load > 0) {
                bf16* const to = ring + filled * STAGE;
                load_a.template load<true>(to, to_load, SLICE);
                load_b.template load<TRANSPOSED>(to + A::ELEMENTS, to_load, TRANSPOSED ? SLICE : SLICE * n);
            }
            to_load -= SLICE;
            filled = filled + 1 == STAGES ? 0 : filled + 1;
            // A group a slice, empty beyond the last: the waits count groups.
            cp_async_commit();
        };
        for (int slice = 0; slice < STAGES - 1; slice++) load();

        float sums[DOWN][ACROSS][4] = {};
        Fragments fragments[2];
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        fragments[0].load(ring, 0, row, column);
        for (; left > 0; left -= SLICE) {
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                if (step == STEPS - 1) {
                    // The next slice is there for all threads, and none reads this one any more: its stage is filled next.
                    cp_async_wait<STAGES - 2>();
                    __syncthreads();
                    stage = stage + 1 == STAGES ? 0 : stage + 1;
                }
                // Fragments of the next step on their way while tensor cores work on this one's; of no use after the last.
                fragments[(step + 1) % 2].load(ring + stage * STAGE, (step + 1) % STEPS, row, column);
                if (step == 0) load();
                fragments[step % 2].add_product(sums);
            }
        }
        cp_async_wait<0>();

#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const size_t r = first_row + row + i * 16 + half * 8 + lane / 4;
                if (r >= m) continue;
                float pairs[ACROSS][2];
#pragma unroll
                for (int j = 0; j < ACROSS; j++) pairs[j][0] = sums[i][j][half * 2], pairs[j][1] = sums[i][j][half * 2 + 1];
                epilogue.write(r, first_column + column + lane % 4 * 2, pairs);
            }
    }
};

}  // namespace lea

#define MATMUL(name, tile_m, tile_n, warp_side, transposed)                                                                \
    KERNEL((lea::Product<tile_m, tile_n, warp_side, transposed>::THREADS), name, size_t m, size_t n, size_t k,              \
           size_t padded, unsigned mode, const bf16* a, const bf16* b, const float* bias, const float* beside, void* c) { \
        lea::Product<tile_m, tile_n, warp_side, transposed>::run(m, n, k, padded, a, b,                                     \
                                                                    lea::Epilogue(mode, bias, beside, c, n));             \
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
