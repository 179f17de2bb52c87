// Registers of a kernel, so that a processor holds several of its blocks at once.
#pragma once
#include "lea.cuh"

// KERNEL(RESIDENT(threads, blocks), name, parameters…) declares a kernel of which `blocks` fit: the assembler keeps to so few registers.
#ifdef LEA_HOST
#define RESIDENT(threads, blocks) threads
#else
#define RESIDENT(threads, blocks) threads, blocks
#endif

namespace lea {

// x, of which the compiler knows nothing: what hangs on it is computed where it is used, not ahead of a loop and held in registers.
__device__ __forceinline__ unsigned unforeseen(unsigned x) {
#ifndef LEA_HOST
    asm volatile("" : "+r"(x));
#endif
    return x;
}

}  // namespace lea
