// The thin products of a low-rank adapter, y += scale (x A^T) B^T, in f32: of a wide matrix x [m, k] with r columns, and with r rows.
//   project:  low [m, r] = scale x f, f [k, r], or stored transposed as [r, k]: x A^T, and backward dy B. Its pieces too, or null.
//   gradient: out [r, w], or stored transposed as [w, r], = t^T x of t [m, r] and x [m, w]: dA, and dB.
// project also gives, where there is a place for it, x in bf16, which it reads anyway and the projection's product takes.
// What is left of the adapter, low B^T and backward dlow A, the products of matmul_bf16*.cu add to their sums on tensor cores, which
// take bf16. So both of its factors come in pieces: x = high + middle + low of 8 bits each, 24 in all, which is what f32 has (in
// whole where x is above 2^-110; a NaN of what bf16 has not, above 3.39e38). Of the nine products of pieces the six largest are kept, what is left
// out is 2^-24 of a term and less:
//   pieces of the left factor [m, p]:  high high middle middle high low, r columns each, and zeros from 6 r on to p, a multiple of 8;
//   pieces of the right factor [n, p] or [p, n]: high middle high middle low high, and those beside the zeros no matter what.
// Bound by reads of the wide matrix: of gradient for r <= 16, of project, whose FMA wait for the first cache above that, for r <= 32.
// kernels/NOTES.md has the figures.
#include "common/resident.cuh"

namespace lea {

constexpr int RANKS = 8;  // Columns of the thin matrix at a time.
constexpr int PIECES = 6;

// Which piece stands in the `place`th run of the left factor, and of the right one: 0 high, 1 middle, 2 low.
__device__ __forceinline__ unsigned left_piece(unsigned place) { return 0x201100u >> place * 4 & 15; }
__device__ __forceinline__ unsigned right_piece(unsigned place) { return 0x021010u >> place * 4 & 15; }

// A piece of x.
__device__ __forceinline__ bf16 piece_of(float x, unsigned piece) {
    bf16 high = to_bf16(x);
    for (unsigned i = 0; i < piece; i++) x -= to_float(high), high = to_bf16(x);
    return high;
}

// Four of a row from `from` on, of which `left` are there, and zeros. `whole`: they begin at a multiple of 16 bytes and are all there, or none.
__device__ __forceinline__ float4 four_of(const float* from, long long left, bool whole) {
    if (whole) return left > 0 ? load4(from) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return make_float4(left > 0 ? from[0] : 0.0f, left > 1 ? from[1] : 0.0f, left > 2 ? from[2] : 0.0f, left > 3 ? from[3] : 0.0f);
}

__device__ __forceinline__ bool whole_fours(const float* x, size_t row) { return (reinterpret_cast<size_t>(x) / 4 | row) % 4 == 0; }

// Each lane gives COUNT sums and ends with one, that of all lanes, as its first: lane l with the l-th. Halves of the sums change places with
// those of the lane across.
template <int COUNT>
__device__ __forceinline__ void spread_sums(float (&sums)[WARP]) {
    constexpr int HALF = COUNT / 2;
    const bool upper = threadIdx.x & HALF;
#pragma unroll
    for (int i = 0; i < HALF; i++) {
        const float given = upper ? sums[i] : sums[i + HALF], kept = upper ? sums[i + HALF] : sums[i];
        sums[i] = kept + shuffle_xor(given, HALF);
    }
    if constexpr (HALF > 1) spread_sums<HALF>(sums);
}

// A warp makes ROWS rows by RANKS columns, lanes with four of k each. The bits of a row depend on it and on f alone.
template <bool TRANSPOSED>
struct Project {
    static constexpr int ROWS = 4;
    static constexpr int WARPS = 4, THREADS = WARPS * WARP;
    static constexpr int PIECES_EACH = 8;
    static_assert(ROWS * RANKS == WARP, "each lane ends with one sum");

    // f at four of k from `depth` on, of which `left` are there, and RANKS columns from `first` on; zeros beyond r.
    static __device__ __forceinline__ void factors(float4 (&to)[RANKS], const float* f, size_t k, size_t r, size_t first, size_t depth,
                                                   long long left, bool whole) {
        if (TRANSPOSED) {
#pragma unroll
            for (int j = 0; j < RANKS; j++) to[j] = four_of(f + (first + j) * k + depth, first + j < r ? left : 0, whole);
        } else {
            float of[4][RANKS];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float* const row = f + (depth + i) * r;
                if (whole) {
#pragma unroll
                    for (int j = 0; j < RANKS; j += 4) {
                        const float4 x = four_of(row + first + j, i < left ? (long long)(r - first) - j : 0, true);
                        of[i][j] = x.x, of[i][j + 1] = x.y, of[i][j + 2] = x.z, of[i][j + 3] = x.w;
                    }
                } else {
#pragma unroll
                    for (int j = 0; j < RANKS; j++) of[i][j] = i < left && first + j < r ? row[first + j] : 0.0f;
                }
            }
#pragma unroll
            for (int j = 0; j < RANKS; j++) to[j] = make_float4(of[0][j], of[1][j], of[2][j], of[3][j]);
        }
    }

    // Pieces of a right factor [r, n] as [p, n]; where f is stored transposed, of [n, r] as [n, p]. Blocks behind those with rows, from `block` on,
    // make PIECES_EACH elements a thread.
    static __device__ __forceinline__ void right_pieces(size_t block, size_t n, size_t r, size_t p, const float* right, bf16* pieces) {
        for (int i = 0; i < PIECES_EACH; i++) {
            const size_t at = (block * PIECES_EACH + i) * THREADS + threadIdx.x, row = at / (TRANSPOSED ? p : n), column = at % (TRANSPOSED ? p : n);
            if (at >= n * p) return;
            const size_t along = TRANSPOSED ? row : column, place = TRANSPOSED ? column : row, rank = place % r;
            pieces[at] = piece_of(right[TRANSPOSED ? along * r + rank : rank * n + along], right_piece((unsigned)(place / r)));
        }
    }

    static __device__ __forceinline__ void run(size_t m, size_t k, size_t r, size_t p, float scale, const float* x, const float* f,
                                               float* low, bf16* pieces, bf16* rounded, size_t n, const float* right, bf16* of_right) {
        const unsigned runs = (r + RANKS - 1) / RANKS, lane = threadIdx.x % WARP;
        const size_t blocks = ((m + ROWS - 1) / ROWS * runs + WARPS - 1) / WARPS;
        if (blockIdx.x >= blocks) return right_pieces(blockIdx.x - blocks, n, r, p, right, of_right);
        // Warps next to each other read the same rows: those of a block from the first cache.
        const size_t warp = (size_t)blockIdx.x * WARPS + threadIdx.x / WARP;
        const size_t first_row = warp / runs * ROWS, first = warp % runs * RANKS;
        if (first_row >= m) return;
        if (first > 0) rounded = nullptr;
        const bool whole_x = whole_fours(x, k), whole_f = whole_fours(f, TRANSPOSED ? k : r);
        float sums[ROWS * RANKS] = {};
        // The rows, at the lane's next four of k: on their way while it works on these.
        float4 next[ROWS];
        const auto load = [&](size_t depth) {
#pragma unroll
            for (int i = 0; i < ROWS; i++)
                next[i] = four_of(x + min(first_row + i, m - 1) * k + depth, (long long)k - (long long)depth, whole_x);
        };
        load(lane * 4);
#pragma unroll 1
        for (size_t depth = lane * 4; depth < k; depth += WARP * 4) {
            const long long left = (long long)(k - depth);
            float4 rows[ROWS], columns[RANKS];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                rows[i] = next[i];
                if (rounded && first_row + i < m) store_four(rounded + (first_row + i) * k + depth, rows[i]);
            }
            load(depth + WARP * 4);
            factors(columns, f, k, r, first, depth, left, whole_f);
#pragma unroll
            for (int i = 0; i < ROWS; i++)
#pragma unroll
                for (int j = 0; j < RANKS; j++) {
                    float& sum = sums[i * RANKS + j];
                    sum = fmaf(rows[i].x, columns[j].x, sum), sum = fmaf(rows[i].y, columns[j].y, sum);
                    sum = fmaf(rows[i].z, columns[j].z, sum), sum = fmaf(rows[i].w, columns[j].w, sum);
                }
        }
        spread_sums<WARP>(sums);
        const size_t row = first_row + lane / RANKS, column = first + lane % RANKS;
        if (row >= m) return;
        const float value = scale * sums[0];
        if (column < r) low[row * r + column] = value;
        if (!pieces) return;
        if (first == 0 && PIECES * r + lane % RANKS < p) pieces[row * p + PIECES * r + lane % RANKS] = to_bf16(0.0f);
        if (column >= r) return;
#pragma unroll
        for (unsigned place = 0; place < PIECES; place++) pieces[row * p + place * r + column] = piece_of(value, left_piece(place));
    }
};

// A block sums PART rows, for 128 columns of x and RANKS of t: each warp every WARPS-th row, then all warps' sums in their order.
template <bool TRANSPOSED>
struct Gradient {
    static constexpr int PART = 256;  // Rows.
    static constexpr int COLUMNS = WARP * 4;
    static constexpr int WARPS = 8, THREADS = WARPS * WARP;

    // sums [parts, r w] where there are several parts, else the result itself.
    static __device__ __forceinline__ void run(size_t m, size_t w, size_t r, const float* t, const float* x, float* sums) {
        __shared__ float4 thin[PART][RANKS / 4];
        __shared__ float4 of_warps[WARPS][RANKS][WARP];
        // Blocks next to each other read the same columns.
        const unsigned runs = (r + RANKS - 1) / RANKS;
        const size_t first_row = (size_t)blockIdx.y * PART, first_column = (size_t)(blockIdx.x / runs) * COLUMNS;
        const size_t first = (size_t)(blockIdx.x % runs) * RANKS;
        const int rows = (int)min(m - first_row, (size_t)PART), warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        for (int i = threadIdx.x; i < rows * RANKS; i += THREADS) {
            const size_t rank = first + i % RANKS;
            reinterpret_cast<float*>(thin)[i] = rank < r ? t[(first_row + i / RANKS) * r + rank] : 0.0f;
        }
        __syncthreads();
        const size_t column = first_column + lane * 4;
        const long long left = (long long)w - (long long)column;
        const bool whole = whole_fours(x, w);
        float4 own[RANKS];
#pragma unroll
        for (int j = 0; j < RANKS; j++) own[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
        for (int row = warp; row < rows; row += WARPS) {
            const float4 four = four_of(x + (first_row + row) * w + column, left, whole);
#pragma unroll
            for (int j = 0; j < RANKS; j += 4) {
                const float4 factor = thin[row][j / 4];
                add(own[j], factor.x, four), add(own[j + 1], factor.y, four), add(own[j + 2], factor.z, four), add(own[j + 3], factor.w, four);
            }
        }
#pragma unroll
        for (int j = 0; j < RANKS; j++) of_warps[warp][j][lane] = own[j];
        __syncthreads();
        const float* const all = reinterpret_cast<const float*>(of_warps);
        float* const to = sums + blockIdx.y * r * w;
        for (int i = threadIdx.x; i < RANKS * COLUMNS; i += THREADS) {
            // Neighbours where they are stored.
            const int rank = TRANSPOSED ? i % RANKS : i / COLUMNS, along = TRANSPOSED ? i / RANKS : i % COLUMNS;
            if (first + rank >= r || first_column + along >= w) continue;
            float sum = all[rank * COLUMNS + along];
            for (int other = 1; other < WARPS; other++) sum += all[(other * RANKS + rank) * COLUMNS + along];
            to[TRANSPOSED ? (first_column + along) * r + first + rank : (first + rank) * w + first_column + along] = sum;
        }
    }

    static __device__ __forceinline__ void add(float4& sum, float factor, const float4& x) {
        sum.x = fmaf(factor, x.x, sum.x), sum.y = fmaf(factor, x.y, sum.y), sum.z = fmaf(factor, x.z, sum.z), sum.w = fmaf(factor, x.w, sum.w);
    }
};

}  // namespace lea

// Twelve warps fit a processor.
#define PROJECT(name, transposed)                                                                                             \
    KERNEL(RESIDENT(lea::Project<transposed>::THREADS, 12 / lea::Project<transposed>::WARPS), name, size_t m, size_t k, size_t r, \
           size_t p, float scale, const float* x, const float* f, float* low, bf16* pieces, bf16* rounded, size_t n,          \
           const float* right, bf16* of_right) {                                                                              \
        lea::Project<transposed>::run(m, k, r, p, scale, x, f, low, pieces, rounded, n, right, of_right);                     \
    }
PROJECT(lea_low_rank_project, false)
PROJECT(lea_low_rank_project_t, true)

#define GRADIENT(name, transposed)                                                                         \
    KERNEL(lea::Gradient<transposed>::THREADS, name, size_t m, size_t w, size_t r, const float* t, const float* x, float* sums) { \
        lea::Gradient<transposed>::run(m, w, r, t, x, sums);                                               \
    }
GRADIENT(lea_low_rank_gradient, false)
GRADIENT(lea_low_rank_gradient_t, true)
