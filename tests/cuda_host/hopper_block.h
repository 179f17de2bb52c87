// The state of Hopper's operations in a block that runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "hopper.h"
#include "tensor_map.h"

namespace cuda_host {

struct Block;
struct Lane;
struct Launch;
struct Worker;

// A tile on its way.
struct Tile {
    Lane* by;
    EncodedMap map;
    unsigned to;
    int at[3];  // Element, and place in the other directions, 0 where there is none.
    unsigned barrier;
};

// A product that a warp asked for, as its 32 threads did.
struct WarpProduct {
    Product lanes[32];
};

struct WarpProducts {
    bool fenced = false;
    std::vector<std::vector<WarpProduct>> groups;
    std::vector<WarpProduct> open;
    size_t asked_for = 0;  // In its warpgroup's list.
    unsigned registers = 0;
};

struct NamedBarrier {
    unsigned threads, arrived;
};

struct HopperBlock {
    unsigned char* seen = nullptr;  // Shared memory as the copy engine and products see it.
    std::vector<Tile> tiles;
    std::vector<void*> mbarriers;
    std::vector<std::pair<void*, Lane*>> unfenced;  // Prepared by that thread, which did not fence them yet.
    std::vector<WarpProducts> warps;
    std::vector<std::vector<Product>> warpgroups;  // What their warps ask for, all the same in the same order.
    NamedBarrier named[16];
    std::minstd_rand random;

    // Before a block's first thread runs.
    void begin(const Block& mine, const Launch& launch, unsigned block);
    // Brings one of the tiles on their way, any; whether there was one.
    bool bring(Worker& worker, Block& mine);
    // After the last thread ended: what is left undone, told as a fault, or a null pointer.
    const char* left_undone(const Launch& launch) const;
    // Whether an mbarrier still expects bytes, or got more than it expects.
    bool bytes_missing() const;
};

// Whether a phase of that parity has ended.
bool phase_ended(const void* barrier, unsigned parity);

}  // namespace cuda_host
