// See hopper.h: products of four warps (wgmma), each warp's 16 rows by themselves, so that warps run ahead of each other as they
// may.
#include <cstring>

#include "engine.h"
#include "worker.h"

namespace cuda_host {

static WarpProducts& products() { return worker->block().hopper.warps[worker->running->thread.thread.x / 32]; }

static float widened(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// A factor in shared memory by its descriptor (PTX ISA, "Matrix descriptor"), swizzled over 128 bytes.
struct Factor {
    unsigned start, leading, stride;
    bool transposed;

    static bool read(uint64_t bits, bool transposed, Factor& factor) {
        factor = {(unsigned)(bits & 0x3fff) << 4, (unsigned)(bits >> 16 & 0x3fff) << 4, (unsigned)(bits >> 32 & 0x3fff) << 4,
                  transposed};
        const uint64_t known = 0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 1ull << 62;
        return (bits & ~known) == 0 && bits >> 62 == 1;
    }

    // Address of an element: `side` of m or n, and k. The swizzle changes bits 4 to 6 by bits 7 to 9, so that 8 elements stay
    // together.
    unsigned address(unsigned side, unsigned k) const {
        const unsigned at = transposed ? start + side / 64 * leading + k / 8 * stride + k % 8 * 128 + side % 64 * 2
                                       : start + side / 8 * stride + side % 8 * 128 + k * 2;
        return at ^ (at >> 7 & 7) << 4;
    }
};

// Elements from `first` on of a factor's side, 16 of k: `to` [16, sides] in rows of `pitch`.
static void gather(const unsigned char* seen, const Factor& from, unsigned first, unsigned sides, float* to, unsigned pitch) {
    uint16_t eight[8];
    for (unsigned side = 0; side < sides; side += from.transposed ? 8 : 1)
        for (unsigned k = 0; k < 16; k += from.transposed ? 1 : 8) {
            memcpy(eight, seen + from.address(first + side, k), 16);
            for (unsigned i = 0; i < 8; i++)
                to[from.transposed ? k * pitch + side + i : (k + i) * pitch + side] = widened(eight[i]);
        }
}

static Factor factor(const char* name, uint64_t bits, bool transposed, unsigned side) {
    Factor found;
    if (!Factor::read(bits, transposed, found))
        fail("%s's descriptor %llx is not of a slice swizzled over 128 bytes", name, (unsigned long long)bits);
    if (transposed && side % 64 != 0) fail("%s runs along rows of 64, of which %u are no multiple", name, side);
    // Else it must tell its offset from there, which is not emulated.
    if (found.start % 1024 >= (transposed ? 16u : 128u))
        fail("%s begins at %u, not in the first of the 8 rows that a swizzle repeats in", name, found.start);
    if (!transposed && found.start % 128 > 96) fail("%s begins at %u: 16 of k reach behind the row", name, found.start);
    if (found.stride % 1024 != 0 || (transposed && found.leading % 1024 != 0))
        fail("%s has strides %u and %u, no multiples of 1024", name, found.leading, found.stride);
    const unsigned last = transposed ? found.start + (side - 1) / 64 * found.leading + found.stride + 1024
                                     : found.start + (side - 1) / 8 * found.stride + 1024 - found.start % 128;
    if (found.start < (unsigned)(worker->block().shared - worker->block().area) || last > MOST_SHARED)
        fail("%s lies outside of shared memory", name);
    return found;
}

// d += a b of one warp, sums over k in f32, term by term in order. Tensor cores add exact products in an order of their own.
__attribute__((optimize("O3"), no_sanitize("undefined"))) static void multiply(const unsigned char* seen, unsigned warp,
                                                                               const WarpProduct& product) {
    const Product& first = product.lanes[0];
    static thread_local float a[16][16], b[16][256], d[16][256];  // a, b: [k, m or n].
    Factor from;
    Factor::read(first.b_at, first.transposed_b, from);
    gather(seen, from, 0, (unsigned)first.n, b[0], 256);
    if (first.a) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 8; i++)
                a[lane % 4 * 2 + i % 2 + (i < 4 ? 0 : 8)][i % 4 < 2 ? lane / 4 : lane / 4 + 8] =
                    widened((uint16_t)(product.lanes[lane].a[i / 2] >> i % 2 * 16));
    } else {
        Factor::read(first.a_at, first.transposed_a, from);
        gather(seen, from, warp % 4 * 16, 16, a[0], 16);
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < first.n / 2; i++)
            d[i % 4 < 2 ? lane / 4 : lane / 4 + 8][i / 4 * 8 + lane % 4 * 2 + i % 2] =
                first.accumulate ? product.lanes[lane].d[i] : 0;
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++) {
            const float left = a[k][m];
            for (int n = 0; n < first.n; n++) d[m][n] += left * b[k][n];
        }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < first.n / 2; i++)
            product.lanes[lane].d[i] = d[i % 4 < 2 ? lane / 4 : lane / 4 + 8][i / 4 * 8 + lane % 4 * 2 + i % 2];
}

static bool same(const Product& x, const Product& y) {
    return !x.a == !y.a && x.a_at == y.a_at && x.b_at == y.b_at && x.n == y.n && x.transposed_a == y.transposed_a &&
           x.transposed_b == y.transposed_b && x.accumulate == y.accumulate;
}

static void ask(void* const* lanes) {
    WarpProduct product;
    for (int lane = 0; lane < 32; lane++) {
        product.lanes[lane] = *(const Product*)lanes[lane];
        if (!same(product.lanes[lane], product.lanes[0])) fail("threads of one warp ask for different products");
    }
    const Product& first = product.lanes[0];
    WarpProducts& mine = products();
    const unsigned warp = worker->running->thread.thread.x / 32;
    if (!mine.fenced) fail("a product without wgmma_fence since the last group");
    factor("b", first.b_at, first.transposed_b, (unsigned)first.n);
    if (!first.a) factor("a", first.a_at, first.transposed_a, 64);
    std::vector<Product>& list = worker->block().hopper.warpgroups[warp / 4];
    if (mine.asked_for == list.size()) list.push_back(first);
    if (!same(list[mine.asked_for++], first)) fail("warps of one warpgroup ask for different products");
    if (worker->launch->manner.deferred) multiply(worker->block().hopper.seen, warp, product);
    mine.open.push_back(product);
}

void wgmma(Product& product) { warp("wgmma", &product, ask); }

void wgmma_fence() {
    warp("wgmma_fence", nullptr, [](void* const*) { products().fenced = true; });
}

void wgmma_commit() {
    warp("wgmma_commit", nullptr, [](void* const*) {
        WarpProducts& mine = products();
        mine.groups.push_back(std::move(mine.open));
        mine.open.clear();
        mine.fenced = false;
    });
}

static void wait_for(const int pending) {
    WarpProducts& mine = products();
    while (mine.groups.size() > (size_t)pending) {
        if (!worker->launch->manner.deferred)
            for (const WarpProduct& product : mine.groups.front())
                multiply(worker->block().hopper.seen, worker->running->thread.thread.x / 32, product);
        mine.groups.erase(mine.groups.begin());
    }
}

void wgmma_wait(int pending) {
    warp("wgmma_wait", &pending, [](void* const* lanes) { wait_for(*(const int*)lanes[0]); });
}

struct Registers {
    unsigned count;
    bool more;
};

// Registers of a thread when a block of so many starts that has a processor to itself.
static unsigned at_first(unsigned threads) { return 65536 / threads / 8 * 8; }

void set_registers(unsigned count, bool more) {
    Registers wanted{count, more};
    warp("setmaxnreg", &wanted, [](void* const* lanes) {
        const Registers wanted = *(const Registers*)lanes[0];
        WarpProducts& mine = products();
        const unsigned now = mine.registers ? mine.registers : at_first(worker->launch->threads);
        if (wanted.count < 24 || wanted.count > 256 || wanted.count % 8 != 0)
            fail("%u registers: no multiple of 8 from 24 to 256", wanted.count);
        if (wanted.more ? wanted.count < now : wanted.count > now)
            fail("setmaxnreg from %u to %u goes the other way", now, wanted.count);
        mine.registers = wanted.count;
    });
}

const char* HopperBlock::left_undone(const Launch& launch) const {
    if (!tiles.empty()) return "a block ended with tiles on their way that nobody waited for";
    unsigned all = 0;
    for (size_t i = 0; i < warps.size(); i++) {
        const WarpProducts& mine = warps[i];
        if (!mine.open.empty() || !mine.groups.empty()) return "a warp ended with products that nobody waited for";
        if (mine.asked_for != warpgroups[i / 4].size()) return "a warp asked for fewer products than the others of its warpgroup";
        if (mine.registers != warps[i / 4 * 4].registers) return "setmaxnreg was not called by all four warps of a warpgroup";
        all += mine.registers ? mine.registers : at_first(launch.threads);
    }
    if (all > at_first(launch.threads) * warps.size())
        return "the warps ask for more registers than the block has: setmaxnreg would wait for ever";
    for (const NamedBarrier& barrier : named)
        if (barrier.arrived) return "a named barrier was left with some of its threads";
    return bytes_missing() ? "a block ended with bytes that an mbarrier still expects, or got too many of" : nullptr;
}

}  // namespace cuda_host
