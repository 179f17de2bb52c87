// Hopper's operations as kernels see them (kernels/common/hopper.cuh), done by hopper.cpp.
//
// Two ways in which a launch may run (Manner): the copy engine brings tiles as late as it may, in any order, and products are
// made when they are asked for; or tiles come at once, and products are made when they are waited for, of what shared memory and
// registers hold by then.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_host {

// The place of a pointer in shared memory, as instructions know it; of dynamic shared memory alone.
unsigned shared_address(const void* pointer);

void mbarrier_init(void* barrier, unsigned arrivals);
void mbarrier_fence_init();
// `expected` bytes more, then one arrival.
void mbarrier_arrive(void* barrier, unsigned expected);
void mbarrier_wait(void* barrier, unsigned parity);
// One arrival at the barrier at the same place in another block of the cluster.
void mbarrier_arrive_at(void* barrier, unsigned rank);

// A box of a map of `rank` 2 or 3 from a place on, its last number not looked at in two directions; into the blocks of the cluster whose
// bits are set, at the same place in each.
void tma_load(void* to, const void* map, unsigned rank, const int (&at)[3], void* barrier, unsigned blocks);
// A thread's writes get visible to the copy engine and to products. Here those of all threads do: which thread wrote what is not
// known.
void fence_proxy_async();

// A product of four warps, as one thread asks for it: a in registers where `a` is no null pointer, else where `a_at` says.
struct Product {
    float* d;
    const unsigned* a;
    uint64_t a_at, b_at;
    int n;
    bool transposed_a, transposed_b, accumulate;
};
void wgmma(Product& product);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int pending);

unsigned cluster_rank();
// Waits for all threads of the cluster.
void cluster_sync();

// More registers for each thread of the warpgroup, or fewer.
void set_registers(unsigned count, bool more);

// Arrives at a named barrier of so many threads, and waits there if `waits`.
void named_barrier(unsigned number, unsigned threads, bool waits);

}  // namespace cuda_host
