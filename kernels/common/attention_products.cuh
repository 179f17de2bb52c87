// Products of attention by `mma.sync`: 16 rows of a warp by rows of a matrix in shared memory, and by its columns. Matrices lie there in bf16,
// WIDTH elements a row and PAD behind it.
#pragma once
#include "attention_rows.cuh"

namespace lea {

constexpr int WARP_ROWS = 16;
constexpr int STEP = 16;  // Depth of one product of tensor cores.
constexpr int PAD = 8;    // Elements behind a row in shared memory: eight rows then lie in different banks.

struct SharedKeys {
    unsigned start[3], length[3];

    __device__ __forceinline__ unsigned count() const { return length[0] + length[1] + length[2]; }
    __device__ __forceinline__ size_t key(unsigned place) const {
        if (place < length[0]) return start[0] + place;
        place -= length[0];
        if (place < length[1]) return start[1] + place;
        return start[2] + (place - length[1]);
    }
};

// Of the kernels of gradients.
constexpr unsigned BACK_THREADS = 128;
constexpr unsigned BACK_TILE = BACK_THREADS / WARP * WARP_ROWS;  // Rows of a product; keys of a part.
struct BackShape {
    unsigned heads, group, hd;
    float scale;

    __device__ __forceinline__ unsigned kv_heads() const { return heads / group; }
};

// Of the warp's rows, whose first lies at `first`, the lane's address for reading 16 by 16 of them as left factors.
template <int WIDTH>
__device__ __forceinline__ const bf16* left_fragment(const bf16* first) {
    const unsigned lane = threadIdx.x % WARP;
    return first + lane % WARP_ROWS * (WIDTH + PAD) + lane / WARP_ROWS * 8;
}

// Products of the warp's rows with 8 COLUMNS rows of a matrix, 16 at a time up to `limit`; the rest is left at 0. `left_at(step, to)` gives
// depths 16 `step` and on of the warp's rows.
template <int WIDTH, int COLUMNS, class LeftAt>
__device__ __forceinline__ void multiply_rows(const bf16* matrix, unsigned limit, const LeftAt& left_at, float (&sums)[COLUMNS][4]) {
    const unsigned lane = threadIdx.x % WARP;
    const bf16* mine = matrix + (lane / 16 * 8 + lane % 8) * (WIDTH + PAD) + lane / 8 % 2 * 8;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        for (int i = 0; i < 4; i++) sums[j][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < WIDTH / STEP; step++) {
        unsigned left[4];
        left_at(step, left);
#pragma unroll
        for (int block = 0; block < COLUMNS / 2; block++) {
            if (block * STEP >= limit) break;
            unsigned right[4];
            ldmatrix_x4(right, mine + block * STEP * (WIDTH + PAD) + step * STEP);
            mma_m16n8k16(sums[2 * block], left, {right[0], right[1]});
            mma_m16n8k16(sums[2 * block + 1], left, {right[2], right[3]});
        }
    }
}

// Adds 8 COLUMNS rows of a matrix by their weights, 16 at a time up to `limit`: of each the 8 SUMS elements at its first.
template <int WIDTH, int COLUMNS, int SUMS>
__device__ __forceinline__ void add_weighted(const bf16* matrix, unsigned limit, const float (&weights)[COLUMNS][4], float (&sums)[SUMS][4]) {
    const unsigned lane = threadIdx.x % WARP;
    const bf16* mine = matrix + lane % 16 * (WIDTH + PAD) + lane / 16 * 8;
#pragma unroll
    for (int block = 0; block < COLUMNS / 2; block++) {
        if (block * STEP >= limit) break;
        unsigned weight[4];
        pack_weights(weights, block, weight);
#pragma unroll
        for (int j = 0; j < SUMS / 2; j++) {
            unsigned right[4];
            ldmatrix_x4_trans(right, mine + block * STEP * (WIDTH + PAD) + j * STEP);
            mma_m16n8k16(sums[2 * j], weight, {right[0], right[1]});
            mma_m16n8k16(sums[2 * j + 1], weight, {right[2], right[3]});
        }
    }
}

}  // namespace lea
