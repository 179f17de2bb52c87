// Hopper's own instructions (PTX for sm_90a): barriers that count arrivals and bytes, tiles that the copy engine (TMA) brings,
// products of four warps from shared memory (wgmma), registers handed between warps. Names follow the PTX ISA; there stand the
// rules too. Addresses of shared memory that swizzles are told of are those of `shared_address`: a slice begins at a multiple of
// 1024 of it.
#pragma once
#include "tensor_core.cuh"

namespace lea {

constexpr int WARPGROUP = 128;
// Bytes of a row of a swizzled slice, and of the 8 rows after which the swizzle repeats. In row r of the 8 the chunk c of 16
// bytes stands at place c ^ r.
constexpr unsigned SWIZZLED_ROW = 128, SWIZZLED_ROWS = 1024;

// A tensor as the copy engine sees it: its address, extents, strides and box, made by the driver.
struct __align__(64) TensorMap {
    unsigned char opaque[128];
};

// A barrier of phases in shared memory. A phase ends once all arrivals and all bytes that it expects are there; the next begins
// at once.
typedef unsigned long long Mbarrier;

}  // namespace lea

#ifdef LEA_HOST
#include "hopper_host.h"
#else

// A kernel that has a processor to itself, so that its warps may hand registers to each other.
#define KERNEL_ALONE(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads, 1) name(__VA_ARGS__)
// The same of two such blocks in a cluster, next to each other in the grid: they see each other's shared memory. None in
// `__shared__`.
#define KERNEL_PAIR(threads, name, ...) \
    extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(threads, 1) name(__VA_ARGS__)
// A tensor map among a kernel's parameters, whose address the copy engine takes.
#define TENSOR_MAP(name) const __grid_constant__ lea::TensorMap name

namespace lea {

// One thread prepares a barrier for phases of so many arrivals, then `fence_mbarrier_init`, then the block's barrier.
__device__ __forceinline__ void mbarrier_init(Mbarrier* barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void mbarrier_arrive(Mbarrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// The phase expects `bytes` more; then arrives.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(Mbarrier* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
// Waits for the end of the phase of that parity: 0 of the first, 1 of the second, and so on. Of a new barrier, that of parity 1
// has ended.
__device__ __forceinline__ void mbarrier_wait(Mbarrier* barrier, unsigned parity) {
    unsigned ended;
    do {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(ended)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    } while (!ended);
}

// Starts the copy of a map's box to shared memory, at a multiple of 128 bytes (of 1024 where the map swizzles): from `column` of
// `row` on, zeros where the tensor does not reach. Its bytes, zeros among them, count for the barrier. One thread asks for it.
__device__ __forceinline__ void tma_load_2d(void* to, const TensorMap* map, int column, int row, Mbarrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
        : "memory");
}
// The same from a tensor of three directions: from `column` of `head` of `row` on. Heads of a row follow each other in the box.
__device__ __forceinline__ void tma_load_3d(void* to, const TensorMap* map, int column, int head, int row, Mbarrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
            shared_address(to)),
        "l"(map), "r"(column), "r"(head), "r"(row), "r"(shared_address(barrier))
        : "memory");
}
// The same as `tma_load_2d` for both blocks of a pair: to the same place in each, and counted by the barrier at the same place in each.
__device__ __forceinline__ void tma_load_2d_pair(void* to, const TensorMap* map, int column, int row, Mbarrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, "
        "%3}], "
        "[%4], %5;" ::"r"(shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"((unsigned short)3)
        : "memory");
}
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// A block's number in its cluster.
__device__ __forceinline__ unsigned cluster_rank() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
// Waits for all threads of the cluster. Before one block writes to another's shared memory it must know that the other runs, and
// before it ends that none writes to its own any more.
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
// Arrives at the barrier at the same place in the cluster's block of that number.
__device__ __forceinline__ void mbarrier_arrive_at(Mbarrier* barrier, unsigned rank) {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
}

// Makes this thread's writes to shared memory visible to the copy engine and to wgmma. A barrier after it, before they read.
__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A factor of wgmma in a swizzled slice. If k runs along its rows of 64 elements: `stride` bytes between groups of 8 rows of m or
// n (SWIZZLED_ROWS if they lie close), `leading` not looked at, and 16 of k further are 32 bytes further in `start`. If m or n
// runs along them ("transposed"): `stride` between groups of 8 rows of k, `leading` between panels of 64 of m or n.
__device__ __forceinline__ unsigned long long matrix_descriptor(const void* start, unsigned stride, unsigned leading = 16) {
    return (unsigned long long)((shared_address(start) & 0x3ffffu) >> 4) | (unsigned long long)(leading >> 4) << 16 |
           (unsigned long long)(stride >> 4) << 32 | 1ull << 62;
}

// Registers that wgmma reads or adds to were written by others before: orders those writes. Before each group.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Ends a group of products.
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Keeps the compiler from touching sums across this place.
template <int COUNT>
__device__ __forceinline__ void hold(float (&sums)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(sums[i])::"memory");
}
// Waits for all groups but the last PENDING ones. Until then nobody may touch their sums, their a in registers or their slices. Sums that a
// pending group adds to are not even held: assemblers before CUDA 13 take that for a touch and make one product after the other.
template <int PENDING, int COUNT>
__device__ __forceinline__ void wgmma_wait(float (&sums)[COUNT]) {
    if (PENDING == 0) hold(sums);
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
    if (PENDING == 0) hold(sums);
}

// Hands registers of each thread of a warpgroup back, or waits for more: a multiple of 8 from 24 to 256. All its warps, in one
// branch.
template <int COUNT>
__device__ __forceinline__ void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// A barrier of some warps of a block, by its number from 1 to 15: `threads` of them sync or arrive, and those that sync go on.
__device__ __forceinline__ void named_barrier_sync(unsigned number, unsigned threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(unsigned number, unsigned threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

}  // namespace lea

#include "wgmma.cuh"

#endif
