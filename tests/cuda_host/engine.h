// The engine that runs kernels on the CPU, as kernels see it. Every thread of a block is a fiber; a barrier or an operation of
// the whole warp gives way to the others. Blocks are spread over the threads of the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

namespace cuda_host {

struct Dim { unsigned x, y, z; };

// What a kernel's thread knows of itself.
struct Thread { Dim thread, block, block_dim, grid_dim; };

Thread* current();

// __syncthreads: goes on once all threads of the block that still run are here, at the same line.
void barrier(const char* file, int line);

// An operation of the whole warp: every lane brings its part, the last to come does the work on all 32.
void warp(const char* operation, void* mine, void (*work)(void* const* lanes));

// The block's dynamic shared memory, which ends where memory ends.
unsigned char* dynamic_shared();

// A copy that runs beside the thread (cp.async). It is done at once or put off until it is waited for, as the run says:
// each way shows mistakes that the other hides. Of `bytes`, the first `read` are copied; zeros come after them.
void copy_async(void* to, const void* from, size_t bytes, size_t read);
void copy_commit();
// Waits for all groups of this thread but the last `pending` ones.
void copy_wait(int pending);

// Whether the fault of that number is asked for by CUDA_HOST_FAULT (tests/cuda/mutations.rs puts them into a copy of the kernels).
extern const int ASKED_FAULT;
inline bool fault(int number) { return number == ASKED_FAULT; }

// Reports a misaligned access and ends the launch.
void expect_aligned(const void* address, size_t alignment);

// Reports a defect of the kernel, with the block and the thread, and lets the launch end.
void report(const char* format, ...) __attribute__((format(printf, 1, 2)));
// The same, and goes on no further.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// A kernel by its name. Its parameters are as wide as the driver's caller must know.
struct Kernel {
    const char* name;
    unsigned threads;
    void (*function)();
    void (*call)(void (*function)(), void** args);
    const size_t* widths;
    size_t parameters;
    unsigned cluster;  // Blocks that run together.
};

void enter(const Kernel& kernel);

struct Registration {
    template <class... A>
    Registration(const char* name, unsigned threads, void (*function)(A...), unsigned cluster = 1) {
        static const size_t widths[] = {sizeof(A)..., 0};
        enter({name, threads, (void (*)())function, &call<A...>, widths, sizeof...(A), cluster});
    }

    template <class... A>
    static void call(void (*function)(), void** args) {
        apply((void (*)(A...))function, args, std::index_sequence_for<A...>());
    }

    template <class... A, size_t... I>
    static void apply(void (*function)(A...), void** args, std::index_sequence<I...>) {
        function(*(A*)args[I]...);
    }
};

}  // namespace cuda_host
