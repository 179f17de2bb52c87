// What the parts of the engine (engine.cpp, hopper.cpp) share: a thread of the system with the fibers of the block that it runs.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <vector>

#include "fiber.h"
#include "hopper_block.h"
#include "run.h"

namespace cuda_host {

static const size_t STACK = 128 << 10;
static const unsigned MOST_THREADS = 1024;
static const size_t MOST_SHARED = 256 << 10;
static const unsigned MOST_BLOCKS = 2;  // Of a cluster.

struct Copy { void* to; const void* from; size_t bytes, read; };

// Of a thread: it runs, or waits for the block's barrier, for the rest of its warp, for a phase of an mbarrier, for a named barrier, for
// its cluster.
enum class State { Ready, Barrier, Warp, Mbarrier, Named, Cluster, Done };

struct Lane {
    Thread thread;
    unsigned number;  // Among those of the cluster, one block's behind the other's.
    Fiber fiber;
    State state;
    const char* file;
    int line;
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
    // What it waits for.
    const void* mbarrier;
    unsigned parity, named;
};

struct Warp { const char* operation; unsigned arrived; void* parts[32]; };

struct Launch {
    Kernel kernel;
    Dim grid;
    unsigned threads;
    size_t shared;
    void** args;
    Manner manner;
    std::atomic<size_t> next{0};
    std::atomic<bool> failed{false};
};

// A block of the cluster that runs, most often the only one.
struct Block {
    unsigned char* area;        // Of shared memory: address 0 of it.
    unsigned char* shared_end;  // Behind it lies a page that nobody may touch.
    unsigned char* shared = nullptr;
    HopperBlock hopper;
};

struct Worker {
    unsigned char* stacks;
    Block blocks[MOST_BLOCKS];
    std::vector<Lane> lanes{MOST_THREADS};
    std::vector<Warp> warps{MOST_THREADS / 32};
    Fiber scheduler;
    Lane* running = nullptr;
    Launch* launch = nullptr;

    Worker() {
        stacks = map(STACK * MOST_THREADS);
        for (Block& block : blocks) {
            block.area = map(MOST_SHARED + 4096);
            block.shared_end = block.area + MOST_SHARED;
            mprotect(block.shared_end, 4096, PROT_NONE);
            block.hopper.seen = map(MOST_SHARED);
        }
    }

    // The block of the running thread.
    Block& block() { return blocks[rank()]; }
    unsigned rank() const { return running->number / launch->threads; }

    static unsigned char* map(size_t bytes) {
        void* area = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (area == MAP_FAILED) abort();
        return (unsigned char*)area;
    }
};

// That of this thread of the system.
extern thread_local Worker* worker;

// Leaves the running thread in a state.
void give_way(State state);

}  // namespace cuda_host
