// Fibers: threads of execution that give way by a call. On x86-64 a switch is a dozen instructions; elsewhere ucontext's.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

extern "C" void cuda_host_switch(void** save, void* load);

namespace cuda_host {

struct Fiber {
    void* stack_pointer = nullptr;

    // Prepares it to run `entry` on a stack; `entry` must never return.
    void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
        uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
        // What the switch pops: six registers and the place to return to; entered as if called, 8 below a multiple of 16.
        uint64_t* words = (uint64_t*)(top - 8 * 8);
        for (int i = 0; i < 6; i++) words[i] = 0;
        words[6] = (uint64_t)entry;
        words[7] = 0;
        stack_pointer = words;
    }

    // Leaves `from` and goes on in this one.
    void resume(Fiber& from) { cuda_host_switch(&from.stack_pointer, stack_pointer); }
};

}  // namespace cuda_host

#else
#include <ucontext.h>

namespace cuda_host {

struct Fiber {
    ucontext_t context;

    void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = bytes;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }

    void resume(Fiber& from) { swapcontext(&from.context, &context); }
};

}  // namespace cuda_host
#endif
