// Products of bf16 factors on tensor cores, a tile of c a block: what matmul_bf16.cu and matmul_bf16_paired.cu are made of.
// Each warp has 64 x 64 of the tile (32 x 32 of the small one), 32 of k at a time. Slices of a and b come by cp.async into a ring of STAGES
// stages; their chunks of 16 bytes are swapped by bits of the row, so that the 8 rows that ldmatrix reads at once lie in different banks.
// Steps of 16 of k, one mma.m16n8k16 after the other: the bits of a row depend neither on the other rows nor on the tile.
// Tiles run in bands of BAND tiles of rows, so that blocks that run together read the same parts of a and b from L2.
#pragma once
#include "epilogue.cuh"
#include "tensor_core.cuh"

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

// PAIRED: after k comes k2, the depth of a2 and b2. Kernels of their own: to change over takes up to 20 registers.
template <int TILE_M, int TILE_N, int WARP_SIDE, bool TRANSPOSED, bool PAIRED>
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

    static __device__ __forceinline__ void run(size_t m, size_t n, size_t k, size_t padded, const bf16* a, const bf16* b, size_t k2,
                                               const bf16* a2, const bf16* b2, const Epilogue& epilogue) {
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
        // What is left of k for the next slice to load, and of all slices for the one in work.
        int to_load = (int)k, left = PAIRED ? (int)((k + SLICE - 1) / SLICE * SLICE + k2) : (int)k;
        int filled = 0, stage = 0;
        bool more = PAIRED;
        const auto load = [&] {
            if (more && to_load <= 0) {
                load_a = A(a2, m, k2, first_row, 0);
                load_b = B(b2, TRANSPOSED ? n : k2, TRANSPOSED ? k2 : n, TRANSPOSED ? first_column : 0, TRANSPOSED ? 0 : first_column);
                to_load = (int)k2, more = false;
            }
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
