// Sums over a whole tensor, block of BLOCK elements by block; passes over the sums of blocks follow until one is left. The order
// depends on the length alone.
//   x, weights [len]; sums [blocks].
// sum: x; dot: weights x, each times `factor`. One block of threads a block.
//   squares: x^2 of several tensors, all blocks in one launch, and then the sums of each tensor's blocks, one block of threads a tensor
//   (in the order of the passes up to 4096 blocks). A row of the table: x [len], of `blocks` blocks. squares [tensors].
//   spread: dx = factor grad; dx [len], grad [1]. spread_weights: dx = grad weights. One thread an element.
// Bound by memory.
#include "common/reduce.cuh"
#include "common/table.cuh"

namespace lea {

constexpr size_t BLOCK = 4096;

// The sum of block `block` of `len` elements.
template <class Element>
__device__ __forceinline__ void sum_block(size_t block, size_t len, float factor, float* sum, Element element) {
    const size_t start = block * BLOCK;
    const size_t end = start + BLOCK < len ? start + BLOCK : len;
    float total = 0.0f;
    for (size_t i = start + threadIdx.x; i < end; i += blockDim.x) total += element(i);
    total = block_sum(total);
    if (threadIdx.x == 0) *sum = factor * total;
}

struct Summed {
    const float* x;
    size_t len;
    unsigned first, blocks;
};
typedef Table<Summed, 160> SumTable;

}  // namespace lea

KERNEL(256, lea_reduce_sum, size_t len, float factor, const float* x, float* sums) {
    lea::sum_block(blockIdx.x, len, factor, sums + blockIdx.x, [=](size_t i) { return x[i]; });
}

KERNEL(256, lea_reduce_squares, TABLE(lea::SumTable, table), float* sums) {
    const lea::Summed& of = table.rows[lea::row_of_block(table)];
    const float* const x = of.x;
    lea::sum_block(blockIdx.x - of.first, of.len, 1.0f, sums + blockIdx.x, [=](size_t i) { return x[i] * x[i]; });
}

KERNEL(256, lea_reduce_squares_of_tensors, TABLE(lea::SumTable, table), const float* sums, float* squares) {
    const lea::Summed& of = table.rows[blockIdx.x];
    float total = 0.0f;
    for (unsigned i = threadIdx.x; i < of.blocks; i += blockDim.x) total += sums[of.first + i];
    total = lea::block_sum(total);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

KERNEL(256, lea_reduce_dot, size_t len, float factor, const float* x, const float* weights, float* sums) {
    lea::sum_block(blockIdx.x, len, factor, sums + blockIdx.x, [=](size_t i) { return weights[i] * x[i]; });
}

KERNEL(256, lea_reduce_spread, size_t len, float factor, const float* grad, float* dx) {
    const size_t i = lea::global_thread();
    if (i < len) dx[i] = factor * grad[0];
}

KERNEL(256, lea_reduce_spread_weights, size_t len, const float* grad, const float* weights, float* dx) {
    const size_t i = lea::global_thread();
    if (i < len) dx[i] = grad[0] * weights[i];
}
