// The engine as the stand-in for the driver sees it.
#pragma once

#include "engine.h"

namespace cuda_host {

enum class Order { Ascending, Descending, Shuffled };

// In which way a launch runs: all are allowed on a GPU, and each shows mistakes that the others hide.
struct Manner {
    bool deferred;  // Asynchronous copies happen when they are waited for, else at once; products of wgmma the other way round.
    Order order;    // Threads run from the first to the last, from the last to the first, or shuffled by their block's number.
};

const Kernel* find(const char* name);

// Runs a grid; false if the kernel did what it must not, which was told on stderr.
bool run(const Kernel& kernel, Dim grid, unsigned threads, size_t shared, void** args, Manner manner);

// "lea_matmul, block (0, 1, 0), thread 5", for a fault of the processor.
void describe_place(char* text, size_t bytes);

}  // namespace cuda_host
