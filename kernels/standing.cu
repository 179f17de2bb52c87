// How the target of every row stands among the scores of all columns: {columns that score higher, others that score the same}.
// A target whose score is NaN stands below all others, a NaN above none.
//   scores [rows, columns]; targets [rows]; standings [rows, 2].
// One block a row. Bound by memory: one read of the scores.
#include "common/lea.cuh"

namespace lea {

// Sums of both counts over the block's threads; thread 0 gets them. Once a kernel: nothing waits before the slots would be written again.
__device__ __forceinline__ void block_counts(unsigned (&counts)[2]) {
    __shared__ unsigned slots[2][WARP];
    for (int of = 0; of < 2; of++) {
        for (int mask = WARP / 2; mask > 0; mask /= 2) counts[of] += shuffle_xor(counts[of], mask);
        if (threadIdx.x % WARP == 0) slots[of][threadIdx.x / WARP] = counts[of];
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int of = 0; of < 2; of++) {
        counts[of] = 0;
        for (int i = 0; i < (int)blockDim.x / WARP; i++) counts[of] += slots[of][i];
    }
}

}  // namespace lea

KERNEL(256, lea_standing, size_t columns, const float* scores, const unsigned* targets, unsigned* standings) {
    const float* row = scores + blockIdx.x * columns;
    const size_t target = targets[blockIdx.x];
    const float own = row[target];
    unsigned counts[2] = {};  // Above, equal.
    for (size_t i = threadIdx.x; i < columns; i += blockDim.x) {
        const float score = row[i];
        counts[0] += score > own;
        counts[1] += score == own && i != target;
    }
    lea::block_counts(counts);
    if (threadIdx.x != 0) return;
    standings[2 * (size_t)blockIdx.x] = own == own ? counts[0] : (unsigned)columns - 1;
    standings[2 * (size_t)blockIdx.x + 1] = counts[1];
}
