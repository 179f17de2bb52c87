// How the target of every row stands among the scores of all columns: {columns that score higher, others that score the same}.
// A target whose score is NaN stands below all others, a NaN above none.
//   scores [rows, columns]; targets [rows]; standings [rows, 2].
// One block a row. Bound by memory: one read of the scores.
#include "common/lea.cuh"

namespace lea {

// Sum over the block's threads; thread 0 gets it.
__device__ __forceinline__ unsigned block_count(unsigned count) {
    __shared__ unsigned slots[WARP];
    for (int mask = WARP / 2; mask > 0; mask /= 2) count += shuffle_xor(count, mask);
    if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = count;
    __syncthreads();
    unsigned sum = 0;
    for (int i = 0; i < (int)blockDim.x / WARP; i++) sum += slots[i];
    __syncthreads();  // The next call writes the slots again.
    return sum;
}

}  // namespace lea

KERNEL(256, lea_standing, size_t columns, const float* scores, const unsigned* targets, unsigned* standings) {
    const float* row = scores + blockIdx.x * columns;
    const size_t target = targets[blockIdx.x];
    const float own = row[target];
    unsigned above = 0, equal = 0;
    for (size_t i = threadIdx.x; i < columns; i += blockDim.x) {
        const float score = row[i];
        above += score > own;
        equal += score == own && i != target;
    }
    above = lea::block_count(above);
    equal = lea::block_count(equal);
    if (threadIdx.x != 0) return;
    standings[2 * (size_t)blockIdx.x] = own == own ? above : (unsigned)columns - 1;
    standings[2 * (size_t)blockIdx.x + 1] = equal;
}
