// c = op(a) op(b) (+ c | + residual) (+ bias) in f32, op the identity or the transpose.
//   a [m, k], or [k, m] if transposed; b [k, n], or [n, k] if transposed; c, residual [m, n]; bias [n].
// A block makes a tile of c, a thread 8 x 8 elements of it (8 x 4 or 4 x 8 of small tiles). Slices of 16 of k come by cp.async as they are
// stored, never transposed: where k runs along the stored rows a thread reads four of k at once from shared memory, elsewhere four rows
// of the tile. Both reads are of 16 bytes and free of bank conflicts.
// Every PART of k is summed by itself in the order of k, and the sums of parts are added in their order: by the block, in c, or
// where there are few tiles by sum_parts, from what a block a part wrote. So the bits of an element depend on its row of a and its
// column of b alone, not on the shape, the layout, the tile or who adds the parts.
// Tiles run in bands of BAND tiles of rows, so that blocks that run together read the same parts of a and b from L2.
// Bound by arithmetic (f32 FMA) once m and n fill tiles, by reads of a and b below that. kernels/NOTES.md has the figures.
#include "common/resident.cuh"
#include "common/tensor_core.cuh"

namespace lea {

constexpr int SLICE = 16;  // Of k, in a stage.
constexpr int CHUNK = 4;   // Elements in 16 bytes.
constexpr int STAGES = 3;
constexpr size_t PART = 512;  // Of k, in a sum of its own: a multiple of SLICE.
constexpr unsigned BAND = 8;
// A warp's lanes along the rows and the columns of its part of c.
constexpr int DOWN = 4, ACROSS = 8;

// A factor, seen as a matrix [rows, k], of which the block takes TILE rows. ALONG: k runs along its stored rows, else it is stored as
// [k, rows]. LANES lanes of a warp have EACH rows each, runs of four.
template <int TILE, int LANES, int EACH, bool ALONG_K, int THREADS>
struct Factor {
    static constexpr bool ALONG = ALONG_K;
    static constexpr int ELEMENTS = TILE * SLICE;  // Of a stage.
    static constexpr int WIDTH = ALONG ? SLICE : TILE;
    static constexpr int STRIDE = THREADS / (WIDTH / CHUNK);  // Stored rows between two chunks of a thread.
    static constexpr int COPIES = ELEMENTS / CHUNK / THREADS;
    static constexpr int RUNS = LANES * CHUNK;  // Rows of one run of all lanes.
    static_assert(ELEMENTS % (CHUNK * THREADS) == 0 && (!ALONG || STRIDE % RUNS == 0), "every thread copies as many chunks");

    const float* from;
    size_t pitch;  // From one stored row to the next.
    int rows;

    // A slice whose rows lie along k has the rows of a run in the order of the lanes, so that lanes which read at once read neighbours:
    // the first row of each lane, then the second. This is the row at a place.
    static __device__ __forceinline__ int row_at(int place) {
        return place / RUNS * RUNS + place % LANES * CHUNK + place % RUNS / LANES;
    }
    // By what the chunks of the row at a place are swapped: two rows fill the banks, and lanes read one chunk of LANES rows at once.
    static __device__ __forceinline__ int swap(int place) { return place / 2 % (LANES / 2); }

    // Of the rows of x [count, k] from the first_row'th on, and from k = first_k on. Rows beyond its end are zeros.
    __device__ __forceinline__ Factor(const float* x, size_t count, size_t k, size_t first_row, size_t first_k)
        : pitch(ALONG ? k : count) {
        const int row = threadIdx.x / (WIDTH / CHUNK), chunk = threadIdx.x % (WIDTH / CHUNK);
        rows = (int)min(count - first_row, (size_t)TILE);
        from = x + (ALONG ? (first_row + row_at(row)) * pitch + first_k : (first_k + row) * pitch + first_row) + chunk * CHUNK;
        // From here on those beyond the thread's first.
        rows -= ALONG ? row_at(row) : chunk * CHUNK;
    }

    // Starts the copy of the next slice. Of k `left` are there, and zeros come after them. `whole`: all rows are whole chunks of 16 bytes.
    __device__ __forceinline__ void load(float* slice, int left, bool whole) {
        const unsigned thread = unforeseen(threadIdx.x);
        const int row = thread / (WIDTH / CHUNK), chunk = thread % (WIDTH / CHUNK);
        float* const to = slice + (ALONG ? row * SLICE + (chunk ^ swap(row)) * CHUNK : row * TILE + chunk * CHUNK);
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int inside = i * STRIDE < (ALONG ? rows : left - row) ? (ALONG ? left : rows) - (ALONG ? chunk * CHUNK : 0) : 0;
            float* const place = to + i * STRIDE * WIDTH;
            const float* const source = from + i * STRIDE * pitch;
            if (whole) {
                cp_async_16(place, source, inside > 0 ? 16 : 0);
            } else {
#pragma unroll
                for (int j = 0; j < CHUNK; j++) cp_async_4(place + j, source + j, j < inside ? 4 : 0);
            }
        }
        from += ALONG ? SLICE : SLICE * pitch;
    }

    // Where lane `lane` of LANES reads its rows of a slice, its warp's rows starting at `first`.
    static __device__ __forceinline__ int start(int first, int lane) {
        return ALONG ? (first + lane) * SLICE + swap(lane) * CHUNK : first + lane * CHUNK;
    }
    // Where k lies along the rows: row `i` of the lane, four of k, the `quad`th of the slice.
    static __device__ __forceinline__ float4 quad_of(const float* slice, int start, int quad, int i) {
        return load4(slice + (start ^ quad * CHUNK) + (i / CHUNK * RUNS + i % CHUNK * LANES) * SLICE);
    }
    // Those of all rows of the lane.
    static __device__ __forceinline__ void quads(const float* slice, int start, int quad, float (&to)[CHUNK][EACH]) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const float4 x = quad_of(slice, start, quad, i);
            to[0][i] = x.x, to[1][i] = x.y, to[2][i] = x.z, to[3][i] = x.w;
        }
    }
    // However it is stored: all rows of the lane at two of k, the first an even one.
    static __device__ __forceinline__ void pairs(const float* slice, int start, int depth, float (&to)[2][EACH]) {
        if constexpr (ALONG) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const float* const from = slice + (start ^ depth) + (i / CHUNK * RUNS + i % CHUNK * LANES) * SLICE;
                const float2 x = *reinterpret_cast<const float2*>(from);
                to[0][i] = x.x, to[1][i] = x.y;
            }
        } else {
#pragma unroll
            for (int of = 0; of < 2; of++)
#pragma unroll
                for (int i = 0; i < EACH; i += CHUNK) {
                    const float4 x = load4(slice + start + (depth + of) * TILE + i / CHUNK * RUNS);
                    to[of][i] = x.x, to[of][i + 1] = x.y, to[of][i + 2] = x.z, to[of][i + 3] = x.w;
                }
        }
    }
};

// What is added to the product, as bits: what c holds, the bias, the residual.
constexpr unsigned ACCUMULATE = 1, BIAS = 2, RESIDUAL = 4;

// Where the product goes. bias and residual are null where the mode lacks them.
struct Output {
    unsigned mode;
    const float *bias, *residual;
    float* c;
    size_t n;
};

// EACH_M x EACH_N elements a thread, WARPS_M x WARPS_N warps a block.
template <int EACH_M, int EACH_N, int WARPS_M, int WARPS_N, bool TRANSPOSE_A, bool TRANSPOSE_B>
struct Matmul {
    static constexpr int TILE_M = DOWN * EACH_M * WARPS_M, TILE_N = ACROSS * EACH_N * WARPS_N;
    static constexpr int THREADS = WARPS_M * WARPS_N * WARP;
    using A = Factor<TILE_M, DOWN, EACH_M, !TRANSPOSE_A, THREADS>;
    using B = Factor<TILE_N, ACROSS, EACH_N, TRANSPOSE_B, THREADS>;
    static constexpr int STAGE = A::ELEMENTS + B::ELEMENTS;

    // A thread's place in the tile: its warp's first row and column, and its own among the warp's lanes. Lanes next to each other differ in
    // their columns, the next two in their rows: a half of a warp reads two rows of a and eight of b, and each pair of lanes one of both,
    // which is what lets shared memory answer the half at once.
    struct Place {
        int warp_row, warp_column, lane_row, lane_column;
        __device__ __forceinline__ Place(unsigned thread)
            : warp_row(thread / WARP / WARPS_N * DOWN * EACH_M), warp_column(thread / WARP % WARPS_N * ACROSS * EACH_N),
              lane_row(thread / 2 % 2 + thread % WARP / 16 * 2), lane_column(thread % 2 + thread / 4 % 4 * 2) {}
    };

    // Adds the products of four of k. A factor along k has several of k in every read: it is read row by row, and the other one held for as
    // many of k, four or two, as there are registers for.
    static __device__ __forceinline__ void add_quad(const float* a, const float* b, int start_a, int start_b, int quad,
                                                    float (&sums)[EACH_M][EACH_N]) {
        if constexpr (A::ALONG && B::ALONG) {
            float left[CHUNK][EACH_M];
            A::quads(a, start_a, quad, left);
#pragma unroll
            for (int j = 0; j < EACH_N; j++) {
                const float4 x = B::quad_of(b, start_b, quad, j);
                const float right[CHUNK] = {x.x, x.y, x.z, x.w};
#pragma unroll
                for (int depth = 0; depth < CHUNK; depth++)
#pragma unroll
                    for (int i = 0; i < EACH_M; i++) sums[i][j] = fmaf(left[depth][i], right[depth], sums[i][j]);
            }
        } else {
#pragma unroll
            for (int first = 0; first < CHUNK; first += 2) {
                float left[2][EACH_M], right[2][EACH_N];
                A::pairs(a, start_a, quad * CHUNK + first, left);
                B::pairs(b, start_b, quad * CHUNK + first, right);
#pragma unroll
                for (int depth = 0; depth < 2; depth++)
#pragma unroll
                    for (int i = 0; i < EACH_M; i++)
#pragma unroll
                        for (int j = 0; j < EACH_N; j++) sums[i][j] = fmaf(left[depth][i], right[depth][j], sums[i][j]);
            }
        }
    }

    // Ends a row's sums. FOURS: rows of c are whole chunks of 16 bytes. All that one step adds is read before anything waits for it.
    template <bool FOURS>
    static __device__ __forceinline__ void write_row(float (&sums)[EACH_N], const Output& to, size_t first, size_t column) {
        const unsigned columns = (unsigned)min(to.n - column, (size_t)TILE_N);
        if (to.mode & ACCUMULATE) add<FOURS>(sums, to.c + first, columns);
        if (to.mode & BIAS) add<FOURS>(sums, to.bias + column, columns);
        if (to.mode & RESIDUAL) add<FOURS>(sums, to.residual + first, columns);
#pragma unroll
        for (int j = 0; j < EACH_N; j += CHUNK) {
            float* const place = to.c + first + j * ACROSS;
            if (FOURS) {
                if (j * ACROSS < columns) store4(place, make_float4(sums[j], sums[j + 1], sums[j + 2], sums[j + 3]));
            } else {
#pragma unroll
                for (int e = 0; e < CHUNK; e++)
                    if (j * ACROSS + e < columns) place[e] = sums[j + e];
            }
        }
    }

    // Adds what `from` has at the thread's columns, so far as they are inside.
    template <bool FOURS>
    static __device__ __forceinline__ void add(float (&sums)[EACH_N], const float* from, unsigned columns) {
        float more[EACH_N] = {};
#pragma unroll
        for (int j = 0; j < EACH_N; j += CHUNK) {
            const float* const place = from + j * ACROSS;
            if (FOURS) {
                if (j * ACROSS >= columns) continue;
                const float4 x = load4(place);
                more[j] = x.x, more[j + 1] = x.y, more[j + 2] = x.z, more[j + 3] = x.w;
            } else {
#pragma unroll
                for (int e = 0; e < CHUNK; e++)
                    if (j * ACROSS + e < columns) more[j + e] = place[e];
            }
        }
#pragma unroll
        for (int j = 0; j < EACH_N; j++) sums[j] += more[j];
    }

    // Ends the sums of a part.
    static __device__ __forceinline__ void write(float (&sums)[EACH_M][EACH_N], const Output& to, size_t m,
                                                 unsigned tile_row, unsigned tile_column) {
        const Place place(unforeseen(threadIdx.x));
        const size_t first_row = (size_t)tile_row * TILE_M + place.warp_row + place.lane_row * CHUNK;
        const size_t column = (size_t)tile_column * TILE_N + place.warp_column + place.lane_column * CHUNK;
        if (column >= to.n) return;
        const bool fours = (reinterpret_cast<size_t>(to.c) / 4 | reinterpret_cast<size_t>(to.bias) / 4 |
                            reinterpret_cast<size_t>(to.residual) / 4 | to.n) % CHUNK == 0;
#pragma unroll
        for (int i = 0; i < EACH_M; i++) {
            const size_t row = first_row + i / CHUNK * DOWN * CHUNK + i % CHUNK;
            if (row >= m) continue;
            if (fours) write_row<true>(sums[i], to, row * to.n + column, column);
            else write_row<false>(sums[i], to, row * to.n + column, column);
        }
    }

    static __device__ __forceinline__ void run(size_t m, size_t n, size_t k, unsigned mode, const float* a, const float* b,
                                               const float* bias, const float* residual, float* c) {
        DYNAMIC_SHARED(memory);
        float* const ring = reinterpret_cast<float*>(memory);
        const unsigned down = (m + TILE_M - 1) / TILE_M, across = (n + TILE_N - 1) / TILE_N;
        const unsigned band = blockIdx.x / (BAND * across), in_band = blockIdx.x % (BAND * across);
        const unsigned height = min(BAND, down - band * BAND);
        const unsigned tile_row = band * BAND + in_band % height, tile_column = in_band / height;
        // Where a part is a block's, it goes to a c of its own.
        const bool one_part = gridDim.y > 1;
        const size_t first_k = one_part ? blockIdx.y * PART : 0;

        // Bits: the rows of a, and of b, are whole chunks of 16 bytes.
        const unsigned whole = unforeseen(((reinterpret_cast<size_t>(a) / 4 | (TRANSPOSE_A ? m : k)) % CHUNK == 0 ? 1 : 0) |
                                          ((reinterpret_cast<size_t>(b) / 4 | (TRANSPOSE_B ? k : n)) % CHUNK == 0 ? 2 : 0));
        A factor_a(a, m, k, (size_t)tile_row * TILE_M, first_k);
        B factor_b(b, n, k, (size_t)tile_column * TILE_N, first_k);
        // What is left of k, of the slice in work.
        int left = (int)(one_part ? min(k - first_k, PART) : k), stage = 0;
        const auto load = [&](int stage, int left) {
            if (left > 0) {
                factor_a.load(ring + stage * STAGE, left, whole & 1);
                factor_b.load(ring + stage * STAGE + A::ELEMENTS, left, whole & 2);
            }
            // A group a slice, empty beyond the last: the waits count groups.
            cp_async_commit();
        };
        for (int slice = 0; slice < STAGES - 1; slice++) load(slice, left - slice * SLICE);

        const Place place(threadIdx.x);
        const int start_a = A::start(place.warp_row, place.lane_row), start_b = B::start(place.warp_column, place.lane_column);
        bool first = true;
        do {
            float sums[EACH_M][EACH_N] = {};
            for (int end = max(left - (int)PART, 0); left > end; left -= SLICE) {
                cp_async_wait<STAGES - 2>();
                // The slice is there for all threads, and none reads the one before any more: its stage is filled next.
                __syncthreads();
                load(stage == 0 ? STAGES - 1 : stage - 1, left - (STAGES - 1) * SLICE);
                const float *const slice_a = ring + stage * STAGE, *const slice_b = slice_a + A::ELEMENTS;
#pragma unroll 1
                for (int quad = 0; quad < SLICE / CHUNK; quad++) add_quad(slice_a, slice_b, start_a, start_b, quad, sums);
                stage = stage + 1 == STAGES ? 0 : stage + 1;
            }
            // A part but the first is added to what is in c by now, and the last brings the rest.
            const unsigned added = (first ? mode & ACCUMULATE : ACCUMULATE) | (left > 0 ? 0 : mode & (BIAS | RESIDUAL));
            write(sums, Output{added, bias, residual, c + unforeseen(blockIdx.y) * m * n, n}, m, tile_row, tile_column);
            first = false;
        } while (left > 0);
        cp_async_wait<0>();
    }
};

}  // namespace lea

// Sixteen warps fit a processor: two blocks of the large tile, four of the others.
#define MATMUL(name, each_m, each_n, warps_m, warps_n, transpose_a, transpose_b)                                             \
    KERNEL(RESIDENT(warps_m * warps_n * 32, 16 / (warps_m * warps_n)), name, size_t m, size_t n, size_t k, unsigned mode,     \
           const float* a, const float* b, const float* bias, const float* residual, float* c) {                             \
        lea::Matmul<each_m, each_n, warps_m, warps_n, transpose_a, transpose_b>::run(m, n, k, mode, a, b, bias, residual, c); \
    }
#define LAYOUTS(name, each_m, each_n, warps_m, warps_n)               \
    MATMUL(name##_nn, each_m, each_n, warps_m, warps_n, false, false) \
    MATMUL(name##_nt, each_m, each_n, warps_m, warps_n, false, true)  \
    MATMUL(name##_tn, each_m, each_n, warps_m, warps_n, true, false)  \
    MATMUL(name##_tt, each_m, each_n, warps_m, warps_n, true, true)

LAYOUTS(lea_matmul_large, 8, 8, 4, 2)  // 128 x 128
LAYOUTS(lea_matmul, 4, 8, 4, 1)        // 64 x 64
LAYOUTS(lea_matmul_tall, 8, 4, 4, 1)   // 128 x 32
LAYOUTS(lea_matmul_wide, 4, 8, 2, 2)   // 32 x 128

// c = the sums of all parts [parts, m, n] (+ c | + residual) (+ bias), in the order in which a block adds them.
KERNEL(256, lea_matmul_sum_parts, size_t len, size_t n, size_t parts, unsigned mode, const float* sums, const float* bias,
       const float* residual, float* c) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    float sum = sums[i];
    if (mode & lea::ACCUMULATE) sum += c[i];
#pragma unroll 8
    for (size_t part = 1; part < parts; part++) sum += sums[part * len + i];
    if (mode & lea::BIAS) sum += bias[i % n];
    if (mode & lea::RESIDUAL) sum += residual[i];
    c[i] = sum;
}
