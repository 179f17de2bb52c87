// arch: sm_90a
// c = a op(b) (+ a2 op(b2)) (+ c | + residual) (+ bias), or silu(gate) times that, on Hopper's tensor cores: what matmul_bf16.cu does, by
// wgmma and the copy engine.
//   a [m, padded] bf16, zeros from k on; b [n, k] if transposed (a layer's weight), else [k, n] (its backward), both as tensor
//   maps with boxes of 64 elements; c [m, n] f32 or bf16; beside [m, n] f32, the residual or the gate; bias [n] f32.
//   a2 [m, k2] and b2, stored as b, alike: what a low-rank adapter adds (low_rank.cu), of which its slices follow those of a and b in
//   the ring. k2 is 0 where there are none, and their maps are not looked at.
// Gated: c = silu(a op(b)) (a op(b2)), both products of a feed-forward block's halves in one tile, 128 columns of each: the gate never leaves
// registers. The same bits as two products of which the second has the gate beside it.
// A block stays on its processor and makes one tile of c after the other, 128 x TILE_N, 64 of k at a time. One thread of its
// first warpgroup has the copy engine bring slices of a and b into a ring of stages; the two others multiply them, 64 rows of the
// tile each, straight from shared memory into registers, which the first one hands to them. While they write a tile, slices of
// the next one come. A stage is full once its bytes are there, and empty once all warps that multiply have read it. Of two slices
// one is multiplied while the other is waited for. Blocks of large tiles run in pairs, a cluster, and share what they read of b.
// Steps of 16 of k, one wgmma after the other: the bits of a row depend neither on the other rows nor on the tile. They may
// differ from those of matmul_bf16.cu, whose instruction may add in another order. Tiles run in bands of BAND tiles of rows, so
// that blocks that run together read the same parts of a and b from L2. Bound by arithmetic where m is large, by reads of b below
// about 200 rows. kernels/NOTES.md has the figures.
#include "common/hopper.cuh"
#include "common/epilogue.cuh"

namespace lea {

constexpr int TILE_M = 128, SLICE = 64;  // Rows of a tile; of k, in a stage: a swizzled row.
constexpr int CONSUMERS = 2, WARPS = CONSUMERS * 4, THREADS = (CONSUMERS + 1) * WARPGROUP;
constexpr unsigned BAND = 8;
// Registers of a thread of the warpgroup that loads, and of those that multiply: (40 + 2 * 232) * 128 of the 65,536 there are.
constexpr int LOADING = 40, MULTIPLYING = 232;

template <int TILE_N, bool TRANSPOSED, bool GATED = false>
struct HopperProduct {
    static constexpr int STAGES = TILE_N == 256 ? 4 : 6;
    // Blocks in pairs, of two tiles one below the other: each brings half of b's slice, for both.
    static constexpr bool PAIR = TILE_N == 256;
    static constexpr unsigned BLOCKS = PAIR ? 2 : 1;
    // Of c, in a tile. Gated, the first half of the sums is the gate's: the first block of a pair brings its weight, the second the other.
    static constexpr int COLUMNS = GATED ? TILE_N / 2 : TILE_N;
    static_assert(!GATED || (PAIR && TRANSPOSED), "halves come from a block each, in rows of weights");
    static constexpr unsigned A = TILE_M * SWIZZLED_ROW, B = TILE_N * SWIZZLED_ROW, STAGE = A + B;
    // A panel of b that is not transposed: 64 rows of k of 64 columns.
    static constexpr unsigned PANEL = SLICE * SWIZZLED_ROW;

    // A ring's place: a stage, and the parity of its phase.
    struct Place {
        int stage = 0;
        unsigned parity = 0;

        __device__ __forceinline__ void advance() {
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    };

    // Where a block's tile lies, that or the pair of which has a number; it runs down a band before it runs across.
    struct Tile {
        size_t row, column;

        __device__ __forceinline__ Tile(unsigned number, unsigned down, unsigned across, unsigned rank) {
            constexpr unsigned HIGH = BAND / BLOCKS;
            const unsigned band = number / (HIGH * across), in_band = number % (HIGH * across);
            const unsigned height = min(HIGH, down - band * HIGH);
            row = ((size_t)(band * HIGH + in_band % height) * BLOCKS + rank) * TILE_M,
            column = (size_t)(in_band / height) * COLUMNS;
        }
    };

    // A block's slice of a, and its part of b's.
    static __device__ __forceinline__ void load(unsigned char* to, const TensorMap* a, const TensorMap* b, const Tile& tile,
                                                unsigned rank, int k, Mbarrier* full) {
        mbarrier_arrive_expect_tx(full, STAGE);
        tma_load_2d(to, a, k, (int)tile.row, full);
        const auto part = [&](unsigned char* to, int column, int row) {
            if (PAIR) tma_load_2d_pair(to, b, column, row, full);
            else tma_load_2d(to, b, column, row, full);
        };
        const int column = (int)tile.column + (GATED ? 0 : rank * (TILE_N / BLOCKS));
        to += A + rank * (B / BLOCKS);
        if (TRANSPOSED) part(to, k, column);
        else
#pragma unroll
            for (int panel = 0; panel < TILE_N / BLOCKS / SLICE; panel++) part(to + panel * PANEL, column + panel * SLICE, k);
    }

    // sums += a b of a stage, the warpgroup's 64 rows of it.
    static __device__ __forceinline__ void multiply(float (&sums)[TILE_N / 2], const unsigned char* stage, int consumer,
                                                    bool accumulate) {
        const unsigned char* const rows = stage + consumer * 64 * SWIZZLED_ROW;
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < SLICE / 16; step++)
            wgmma<TILE_N, false, !TRANSPOSED>(
                sums, matrix_descriptor(rows + step * 32, SWIZZLED_ROWS),
                matrix_descriptor(stage + A + step * (TRANSPOSED ? 32 : 16 * SWIZZLED_ROW), SWIZZLED_ROWS, PANEL),
                accumulate || step > 0);
        wgmma_commit();
    }

    // Ends a warpgroup's 64 rows of a tile.
    static __device__ __forceinline__ void write(const float (&sums)[TILE_N / 2], size_t row, size_t column, size_t m,
                                                 const Epilogue& epilogue) {
        constexpr int AT_ONCE = 16;  // Pairs.
        const int lane = threadIdx.x % WARP;
        row += threadIdx.x % WARPGROUP / WARP * 16 + lane / 4, column += lane % 4 * 2;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (row + half * 8 >= m) continue;
#pragma unroll
            for (int first = 0; first < COLUMNS / 8; first += AT_ONCE) {
                float pairs[AT_ONCE][2];
#pragma unroll
                for (int j = 0; j < AT_ONCE; j++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int at = (first + j) * 4 + half * 2 + i;
                        pairs[j][i] = GATED ? swiglu(sums[at], sums[at + TILE_N / 4]) : sums[at];
                    }
                epilogue.write(row + half * 8, column + first * 8, pairs);
            }
        }
    }

    static __device__ __forceinline__ void run(size_t m, size_t n, size_t k, const TensorMap* a, const TensorMap* b, size_t k2,
                                               const TensorMap* a2, const TensorMap* b2, const Epilogue& epilogue) {
        DYNAMIC_SHARED(memory);
        unsigned char* const ring = memory + (SWIZZLED_ROWS - shared_address(memory) % SWIZZLED_ROWS) % SWIZZLED_ROWS;
        Mbarrier* const full = reinterpret_cast<Mbarrier*>(ring + STAGES * STAGE);
        Mbarrier* const empty = full + STAGES;
        const unsigned down = (m + TILE_M * BLOCKS - 1) / (TILE_M * BLOCKS), across = (n + COLUMNS - 1) / COLUMNS;
        const unsigned rank = PAIR ? cluster_rank() : 0, first = blockIdx.x / BLOCKS, step = gridDim.x / BLOCKS;
        const int of_first = (int)((k + SLICE - 1) / SLICE), slices = of_first + (int)((k2 + SLICE - 1) / SLICE);
        if (threadIdx.x == 0) {
            for (int stage = 0; stage < STAGES; stage++)
                mbarrier_init(full + stage, 1), mbarrier_init(empty + stage, WARPS * BLOCKS);
            fence_mbarrier_init();
        }
        if (PAIR) cluster_sync();
        else __syncthreads();

        Place place;
        if (threadIdx.x < WARPGROUP) {
            setmaxnreg_dec<LOADING>();
            if (threadIdx.x == 0) {
                for (unsigned number = first; number < down * across; number += step) {
                    const Tile tile(number, down, across, rank);
                    for (int slice = 0; slice < slices; slice++, place.advance()) {
                        mbarrier_wait(empty + place.stage, place.parity ^ 1);
                        const bool second = slice >= of_first;
                        load(ring + place.stage * STAGE, second ? a2 : a, second || (GATED && rank > 0) ? b2 : b, tile, rank,
                             (second ? slice - of_first : slice) * SLICE, full + place.stage);
                    }
                }
            }
        } else {
            setmaxnreg_inc<MULTIPLYING>();
            const int consumer = threadIdx.x / WARPGROUP - 1;
            // A warp has read a stage: tells all blocks that fill it.
            const unsigned lane = threadIdx.x % WARP;
            const auto release = [&](Mbarrier* empty) {
                if (PAIR && lane < BLOCKS) mbarrier_arrive_at(empty, lane);
                if (!PAIR && lane == 0) mbarrier_arrive(empty);
            };
            for (unsigned number = first; number < down * across; number += step) {
                const Tile tile(number, down, across, rank);
                float sums[TILE_N / 2];
                mbarrier_wait(full + place.stage, place.parity);
                multiply(sums, ring + place.stage * STAGE, consumer, false);
                Mbarrier* read = empty + place.stage;  // That of the slice before, while it is multiplied.
                place.advance();
                for (int slice = 1; slice < slices; slice++, place.advance()) {
                    mbarrier_wait(full + place.stage, place.parity);
                    multiply(sums, ring + place.stage * STAGE, consumer, true);
                    wgmma_wait<1>(sums);
                    release(read);
                    read = empty + place.stage;
                }
                wgmma_wait<0>(sums);
                release(read);
                write(sums, tile.row + consumer * 64, tile.column, m, epilogue);
            }
        }
        if (PAIR) cluster_sync();
    }
};

}  // namespace lea

#define MATMUL(kind, name, ...)                                                                                            \
    kind(lea::THREADS, name, size_t m, size_t n, size_t k, unsigned mode, TENSOR_MAP(a), TENSOR_MAP(b), const float* bias, \
         const float* beside, void* c, size_t k2, TENSOR_MAP(a2), TENSOR_MAP(b2)) {                                        \
        lea::HopperProduct<__VA_ARGS__>::run(m, n, k, &a, &b, k2, &a2, &b2, lea::Epilogue(mode, bias, beside, c, n));      \
    }

MATMUL(KERNEL_ALONE, lea_matmul_bf16_sm90_nt, 128, true)
MATMUL(KERNEL_ALONE, lea_matmul_bf16_sm90_nn, 128, false)
MATMUL(KERNEL_PAIR, lea_matmul_bf16_sm90_large_nt, 256, true)
MATMUL(KERNEL_PAIR, lea_matmul_bf16_sm90_large_nn, 256, false)
MATMUL(KERNEL_PAIR, lea_matmul_bf16_sm90_gated_nt, 256, true, true)
