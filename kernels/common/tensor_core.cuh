// Tensor cores of sm_80 and later: a warp's product of a 16 x 16 and a 16 x 8 tile of bf16 into f32, its loads from shared
// memory, and copies from global to shared memory beside the threads. Names follow the PTX ISA; there stand the layouts too.
#pragma once
#include "lea.cuh"

#ifdef LEA_HOST
#include "tensor_core_host.h"
#else

namespace lea {

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

// d += a b for a [16, 16], b [16, 8], d [16, 8] spread over the warp. With g = lane / 4 and t = lane % 4:
//   a[0] row g, columns 2t and 2t + 1; a[1] row g + 8; a[2] row g, columns 2t + 8 and 2t + 9; a[3] row g + 8, the same;
//   b[0] rows 2t and 2t + 1 of column g; b[1] rows 2t + 8 and 2t + 9;  d[0], d[1] row g, columns 2t and 2t + 1; d[2], d[3] row g + 8.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices of 8 x 8 bf16: lane i gives the address, a multiple of 16 bytes, of row i % 8 of matrix i / 8. It gets, of
// each matrix, elements 2t and 2t + 1 of row g, as mma_m16n8k16 wants them.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same of the transposes: elements g of rows 2t and 2t + 1.
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// Two matrices; the addresses of lanes from 16 on are not looked at, but must be valid.
__device__ __forceinline__ void ldmatrix_x2(unsigned (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row))
                 : "memory");
}

// Copies the first `bytes` of 16 bytes from global to shared memory and zeros after them, beside the thread. Both addresses
// are multiples of 16.
__device__ __forceinline__ void cp_async_16(void* to, const void* from, unsigned bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
// The same of one element of 4 bytes: all of it or, with 0 bytes, zeros.
__device__ __forceinline__ void cp_async_4(void* to, const void* from, unsigned bytes = 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
// Ends a group of this thread's copies.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups of this thread but the last PENDING ones.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// 2 to the x, right to 2 units in the last place; 0 where that is below the least normal number.
__device__ __forceinline__ float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// Waits for all lanes of the warp, and for what they have read or written.
__device__ __forceinline__ void warp_sync() { __syncwarp(ALL_LANES); }

}  // namespace lea

#endif
