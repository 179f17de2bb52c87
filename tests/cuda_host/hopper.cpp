// See hopper.h: mbarriers and the copy engine. Products stand in wgmma.cpp.
#include <cstring>

#include "engine.h"
#include "worker.h"

namespace cuda_host {

static Lane& lane() { return *worker->running; }

unsigned shared_address(const void* pointer) {
    const unsigned char* at = (const unsigned char*)pointer;
    const Block& mine = worker->block();
    if (at < mine.shared || at >= mine.shared_end) fail("address %p is not in the block's dynamic shared memory", pointer);
    return (unsigned)(at - mine.area);
}

// An mbarrier as it stands in memory: arrivals of a phase, those that are still missing, bytes that are still missing (less than
// 0 if more came than are expected so far), the parity of the phase, and a mark that neither zeros nor NaN nor data are likely to
// have.
struct Phase {
    static const unsigned MOST = (1u << 20) - 1;
    unsigned arrivals, missing;
    int bytes;
    unsigned parity;

    static bool read(const void* from, Phase& phase) {
        uint64_t word;
        memcpy(&word, from, 8);
        phase = {(unsigned)(word & MOST), (unsigned)(word >> 20 & MOST), (int)(word >> 40 & 0x1fffff) - (1 << 20),
                 (unsigned)(word >> 61 & 1)};
        return word >> 62 == 2 && phase.arrivals > 0;
    }

    // Begins the next phase if this one has ended.
    void write(void* to) {
        if (missing == 0 && bytes == 0) missing = arrivals, parity ^= 1;
        const uint64_t word =
            arrivals | (uint64_t)missing << 20 | (uint64_t)(bytes + (1 << 20)) << 40 | (uint64_t)parity << 61 | 2ull << 62;
        memcpy(to, &word, 8);
    }

    // Whether it can count so many.
    bool expect(int more) {
        bytes += more;
        return bytes <= (int)MOST && bytes >= -(int)MOST;
    }
};

// Of the barrier at that place in a block's shared memory.
static Phase phase_in(const Block& block, unsigned at) {
    Phase phase;
    if (!Phase::read(block.area + at, phase))
        fail("the mbarrier at %u of shared memory was not initialised, or was written over", at);
    return phase;
}

static Phase phase_of(const void* barrier) {
    expect_aligned(barrier, 8);
    return phase_in(worker->block(), shared_address(barrier));
}

void mbarrier_init(void* barrier, unsigned arrivals) {
    expect_aligned(barrier, 8);
    shared_address(barrier);
    if (arrivals == 0 || arrivals > Phase::MOST) fail("an mbarrier of %u arrivals", arrivals);
    Phase{arrivals, arrivals, 0, 0}.write(barrier);
    worker->block().hopper.mbarriers.push_back(barrier);
    worker->block().hopper.unfenced.push_back({barrier, &lane()});
}

void mbarrier_fence_init() {
    auto& all = worker->block().hopper.unfenced;
    for (size_t i = all.size(); i-- > 0;)
        if (all[i].second == &lane()) all.erase(all.begin() + (long)i);
}

void mbarrier_arrive(void* barrier, unsigned expected) {
    Phase phase = phase_of(barrier);
    if (phase.missing == 0) fail("an mbarrier of %u arrivals gets one more, before its phase has all its bytes", phase.arrivals);
    if (!phase.expect((int)expected)) fail("an mbarrier is to count %d bytes, more than it can", phase.bytes);
    phase.missing--;
    phase.write(barrier);
}

static bool ended(unsigned rank) {
    for (unsigned i = 0; i < worker->launch->threads; i++)
        if (worker->lanes[rank * worker->launch->threads + i].state != State::Done) return false;
    return true;
}

void mbarrier_arrive_at(void* barrier, unsigned rank) {
    if (rank >= worker->launch->kernel.cluster) fail("the cluster has no block %u", rank);
    expect_aligned(barrier, 8);
    const unsigned at = shared_address(barrier);
    if (ended(rank)) fail("arrives at a barrier of block %u of the cluster, which has ended", rank);
    Block& other = worker->blocks[rank];
    Phase phase = phase_in(other, at);
    if (phase.missing == 0) fail("an mbarrier of %u arrivals gets one more, before its phase has all its bytes", phase.arrivals);
    phase.missing--;
    phase.write(other.area + at);
}

unsigned cluster_rank() { return worker->rank(); }

void cluster_sync() { give_way(State::Cluster); }

bool phase_ended(const void* barrier, unsigned parity) {
    Phase phase;
    return Phase::read(barrier, phase) && phase.parity != parity;
}

void mbarrier_wait(void* barrier, unsigned parity) {
    if (parity > 1) fail("the parity of a phase is 0 or 1, not %u", parity);
    phase_of(barrier);
    while (!phase_ended(barrier, parity)) {
        lane().mbarrier = barrier;
        lane().parity = parity;
        give_way(State::Mbarrier);
    }
}

// Where a byte of a swizzled box stands: bits of its address, changed by other bits of it.
static unsigned swizzled(unsigned address, int swizzle) {
    const unsigned bits = swizzle == SWIZZLE_128B ? 7 : swizzle == SWIZZLE_64B ? 3 : swizzle == SWIZZLE_32B ? 1 : 0;
    return address ^ (address >> 7 & bits) << 4;
}

static void bring(Block& block, const Tile& tile) {
    const EncodedMap& map = tile.map;
    const unsigned width = map.box[0] * map.element_bytes, piece = width < 16 ? width : 16;
    const unsigned rows = map.box[1] * (map.rank > 2 ? map.box[2] : 1);
    for (unsigned row = 0; row < rows; row++) {
        const int64_t from[] = {(int64_t)tile.at[1] + row % map.box[1], (int64_t)tile.at[2] + row / map.box[1]};
        bool row_there = true;
        int64_t offset = 0;
        for (unsigned i = 0; i + 1 < map.rank; i++) {
            row_there &= from[i] >= 0 && from[i] <= (int64_t)map.extents[i + 1];
            offset += from[i] * (int64_t)map.strides[i];
        }
        for (unsigned byte = 0; byte < width; byte += piece) {
            unsigned char content[16];
            const int64_t column = (int64_t)tile.at[0] + byte / map.element_bytes, last = column + piece / map.element_bytes - 1;
            const char* const source = (const char*)map.address + offset;
            if (row_there && column >= 0 && last <= (int64_t)map.extents[0]) {
                memcpy(content, source + column * map.element_bytes, piece);
            } else {
                memset(content, map.nan_fill ? 0xff : 0, sizeof content);
                for (int64_t c = column; c <= last; c++)
                    if (row_there && c >= 0 && c <= (int64_t)map.extents[0])
                        memcpy(content + (c - column) * map.element_bytes, source + c * map.element_bytes, map.element_bytes);
            }
            const unsigned at = swizzled(tile.to + row * width + byte, map.swizzle);
            memcpy(block.area + at, content, piece);
            memcpy(block.hopper.seen + at, content, piece);
        }
    }
    // Not `fail`: no thread runs here.
    Phase phase;
    if (!Phase::read(block.area + tile.barrier, phase) || !phase.expect(-(int)(width * rows)))
        return report("the mbarrier of a copy was written over, or counts more bytes than it can");
    phase.write(block.area + tile.barrier);
}

void tma_load(void* to, const void* map, unsigned rank, const int (&at)[3], void* barrier, unsigned blocks) {
    expect_aligned(barrier, 8);
    Tile tile{&lane(), {}, shared_address(to), {at[0], at[1], at[2]}, shared_address(barrier)};
    memcpy(&tile.map, map, sizeof tile.map);
    const EncodedMap& m = tile.map;
    if (m.mark != TENSOR_MAP_MARK) fail("the copy engine got a tensor map that no driver made");
    if (m.rank != rank) fail("a tensor map of rank %u for a copy of rank %u", m.rank, rank);
    if (m.interleave || m.element_strides[0] != 1 || m.element_strides[1] != 1 || (rank > 2 && m.element_strides[2] != 1))
        fail("interleaved or strided boxes are not emulated");
    expect_aligned(to, 128);
    const unsigned bytes = m.box[0] * m.element_bytes * m.box[1] * (rank > 2 ? m.box[2] : 1);
    const unsigned spans[] = {0, 32, 64, 128};
    if (m.swizzle != SWIZZLE_NONE && m.box[0] * m.element_bytes != spans[m.swizzle])
        fail("a box whose rows are shorter than the swizzle is not emulated");
    if (m.swizzle == SWIZZLE_128B && tile.to % 1024 != 0)
        fail("a swizzled box at %u, no multiple of 1024 of shared memory", tile.to);
    if (tile.to + bytes > MOST_SHARED) fail("a box of %u bytes reaches behind shared memory", bytes);
    for (unsigned rank = 0; rank < MOST_BLOCKS; rank++) {
        if (!(blocks >> rank & 1)) continue;
        if (rank >= worker->launch->kernel.cluster) fail("the cluster has no block %u", rank);
        if (ended(rank)) fail("a copy into block %u of the cluster, which has ended", rank);
        Block& block = worker->blocks[rank];
        phase_in(block, tile.barrier);
        for (const auto& [unfenced, by] : block.hopper.unfenced)
            if (unfenced == block.area + tile.barrier)
                fail("the copy engine may not see yet that its mbarrier was initialised: fence_mbarrier_init is missing");
        if (worker->launch->manner.deferred) block.hopper.tiles.push_back(tile);
        else bring(block, tile);
    }
}

void fence_proxy_async() {
    const Block& mine = worker->block();
    const size_t from = (size_t)(mine.shared - mine.area);
    memcpy(mine.hopper.seen + from, mine.shared, MOST_SHARED - from);
}

void named_barrier(unsigned number, unsigned threads, bool waits) {
    if (number == 0 || number > 15 || threads == 0 || threads % 32 != 0 || threads > worker->launch->threads)
        fail("a named barrier %u of %u threads: numbers are 1 to 15, threads whole warps of the block", number, threads);
    NamedBarrier& barrier = worker->block().hopper.named[number];
    if (barrier.arrived == 0) barrier.threads = threads;
    if (barrier.threads != threads) fail("named barrier %u is of %u threads and of %u", number, barrier.threads, threads);
    if (++barrier.arrived == threads) {
        barrier.arrived = 0;
        for (Lane& other : worker->lanes)
            if (other.state == State::Named && other.named == number && other.number / worker->launch->threads == worker->rank())
                other.state = State::Ready;
    } else if (waits) {
        lane().named = number;
        give_way(State::Named);
    }
}

void HopperBlock::begin(const Block& mine, const Launch& launch, unsigned block) {
    const size_t from = (size_t)(mine.shared - mine.area);
    memset(seen + from, 0xff, MOST_SHARED - from);
    tiles.clear(), mbarriers.clear(), unfenced.clear();
    warps.assign((launch.threads + 31) / 32, {});
    warpgroups.assign((launch.threads + 127) / 128, {});
    for (NamedBarrier& barrier : named) barrier = {0, 0};
    random.seed(block + 1);
}

bool HopperBlock::bytes_missing() const {
    for (const void* barrier : mbarriers) {
        Phase phase;
        if (Phase::read(barrier, phase) && phase.bytes != 0) return true;
    }
    return false;
}

bool HopperBlock::bring(Worker& w, Block& mine) {
    if (tiles.empty()) return false;
    std::swap(tiles[random() % tiles.size()], tiles.back());
    const Tile tile = tiles.back();
    tiles.pop_back();
    w.running = tile.by;
    cuda_host::bring(mine, tile);
    w.running = nullptr;
    return true;
}

}  // namespace cuda_host
