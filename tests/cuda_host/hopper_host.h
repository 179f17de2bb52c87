// What kernels/common/hopper.cuh stands for when kernels run on the CPU.
#pragma once

#include "hopper.h"

#define KERNEL_ALONE KERNEL
#define KERNEL_PAIR(threads, name, ...)                                                 \
    extern "C" void name(__VA_ARGS__);                                                  \
    static const cuda_host::Registration name##_registration(#name, threads, &name, 2); \
    extern "C" void name(__VA_ARGS__)
#define TENSOR_MAP(name) const lea::TensorMap name

namespace lea {

inline unsigned shared_address(const void* pointer) { return cuda_host::shared_address(pointer); }

inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals) { cuda_host::mbarrier_init(barrier, arrivals); }
inline void fence_mbarrier_init() { cuda_host::mbarrier_fence_init(); }
inline void mbarrier_arrive(Mbarrier* barrier) { cuda_host::mbarrier_arrive(barrier, 0); }
inline void mbarrier_arrive_expect_tx(Mbarrier* barrier, unsigned bytes) { cuda_host::mbarrier_arrive(barrier, bytes); }
inline void mbarrier_wait(Mbarrier* barrier, unsigned parity) { cuda_host::mbarrier_wait(barrier, parity); }

inline void tma_load_2d(void* to, const TensorMap* map, int column, int row, Mbarrier* barrier) {
    cuda_host::expect_aligned(map, 64);
    cuda_host::tma_load(to, map, 2, {column, row, 0}, barrier, 1u << cuda_host::cluster_rank());
}
inline void tma_load_3d(void* to, const TensorMap* map, int column, int head, int row, Mbarrier* barrier) {
    cuda_host::expect_aligned(map, 64);
    cuda_host::tma_load(to, map, 3, {column, head, row}, barrier, 1u << cuda_host::cluster_rank());
}
inline void tma_load_2d_pair(void* to, const TensorMap* map, int column, int row, Mbarrier* barrier) {
    cuda_host::expect_aligned(map, 64);
    cuda_host::tma_load(to, map, 2, {column, row, 0}, barrier, 3);
}
inline unsigned cluster_rank() { return cuda_host::cluster_rank(); }
inline void cluster_sync() { cuda_host::cluster_sync(); }
inline void mbarrier_arrive_at(Mbarrier* barrier, unsigned rank) { cuda_host::mbarrier_arrive_at(barrier, rank); }
inline void prefetch_tensor_map(const TensorMap*) {}
inline void fence_proxy_async() { cuda_host::fence_proxy_async(); }

inline unsigned long long matrix_descriptor(const void* start, unsigned stride, unsigned leading = 16) {
    return (unsigned long long)((shared_address(start) & 0x3ffffu) >> 4) | (unsigned long long)(leading >> 4) << 16 |
           (unsigned long long)(stride >> 4) << 32 | 1ull << 62;
}

inline void wgmma_fence() { cuda_host::wgmma_fence(); }
inline void wgmma_commit() { cuda_host::wgmma_commit(); }
template <int COUNT>
inline void hold(float (&)[COUNT]) {}
template <int PENDING, int COUNT>
inline void wgmma_wait(float (&)[COUNT]) {
    cuda_host::wgmma_wait(PENDING);
}

template <int N, bool TRANSPOSED_A, bool TRANSPOSED_B>
inline void wgmma(float (&d)[N / 2], unsigned long long a, unsigned long long b, bool accumulate) {
    cuda_host::Product product{d, nullptr, a, b, N, TRANSPOSED_A, TRANSPOSED_B, accumulate};
    cuda_host::wgmma(product);
}
template <int N, bool TRANSPOSED_B>
inline void wgmma(float (&d)[N / 2], const unsigned (&a)[4], unsigned long long b, bool accumulate) {
    cuda_host::Product product{d, a, 0, b, N, false, TRANSPOSED_B, accumulate};
    cuda_host::wgmma(product);
}

template <int COUNT>
inline void setmaxnreg_dec() {
    cuda_host::set_registers(COUNT, false);
}
template <int COUNT>
inline void setmaxnreg_inc() {
    cuda_host::set_registers(COUNT, true);
}

inline void named_barrier_sync(unsigned number, unsigned threads) { cuda_host::named_barrier(number, threads, true); }
inline void named_barrier_arrive(unsigned number, unsigned threads) { cuda_host::named_barrier(number, threads, false); }

}  // namespace lea
