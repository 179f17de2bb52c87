// See engine.h. A block's threads run one after another on one thread of the system, each until it waits. In ascending,
// descending or shuffled order, as the run says: a missing barrier shows in one of them as a read of what is not written yet.
#include "run.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "worker.h"

#if defined(__x86_64__)
asm(R"(
.pushsection .text
.globl cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_host_switch, .-cuda_host_switch
.popsection
)");
#endif

extern "C" void* __tls_get_addr(size_t* module_and_offset);

namespace cuda_host {

thread_local Worker* worker = nullptr;

Thread* current() { return &worker->running->thread; }
unsigned char* dynamic_shared() { return worker->block().shared; }

void give_way(State state) {
    Lane* lane = worker->running;
    lane->state = state;
    worker->scheduler.resume(lane->fiber);
}

static void tell(const char* text) {
    if (worker->launch->failed.exchange(true)) return;
    std::string place = worker->launch->kernel.name;
    if (worker->running) {
        const Thread& t = worker->running->thread;
        place += ", block (" + std::to_string(t.block.x) + ", " + std::to_string(t.block.y) + ", " + std::to_string(t.block.z) +
                 "), thread " + std::to_string(t.thread.x);
    }
    fprintf(stderr, "cuda_host: %s: %s\n", place.c_str(), text);
}

#define TELL(format)                             \
    char text[1024];                             \
    va_list list;                                \
    va_start(list, format);                      \
    vsnprintf(text, sizeof text, format, list);  \
    va_end(list);                                \
    tell(text)

void report(const char* format, ...) { TELL(format); }

void fail(const char* format, ...) {
    TELL(format);
    give_way(State::Done);
    abort();
}

// Where a fault of the processor happened, for the report.
void describe_place(char* text, size_t bytes) {
    if (!worker || !worker->running || !worker->launch) {
        snprintf(text, bytes, "outside of kernels");
        return;
    }
    const Thread& t = worker->running->thread;
    snprintf(text, bytes, "%s, block (%u, %u, %u), thread %u", worker->launch->kernel.name, t.block.x, t.block.y,
             t.block.z, t.thread.x);
}

extern const int ASKED_FAULT = getenv("CUDA_HOST_FAULT") ? atoi(getenv("CUDA_HOST_FAULT")) : 0;

// Whether CUDA_HOST_WITHOUT_BARRIER=matmul.cu:65 takes this barrier away.
static bool taken_away(const char* file, int line) {
    static const char* wanted = getenv("CUDA_HOST_WITHOUT_BARRIER");
    if (!wanted) return false;
    const char* colon = strchr(wanted, ':');
    const size_t name = colon ? (size_t)(colon - wanted) : 0, length = strlen(file);
    return colon && atoi(colon + 1) == line && length > name && file[length - name - 1] == '/' &&
           strncmp(file + length - name, wanted, name) == 0;
}

void barrier(const char* file, int line) {
    if (taken_away(file, line)) return;
    worker->running->file = file;
    worker->running->line = line;
    give_way(State::Barrier);
}

void warp(const char* operation, void* mine, void (*work)(void* const* lanes)) {
    const unsigned number = worker->running->number;
    Warp& warp = worker->warps[number / 32];
    if (warp.arrived == 0) warp.operation = operation;
    if (strcmp(warp.operation, operation) != 0)
        fail("lanes of one warp are at different operations: %s and %s", warp.operation, operation);
    warp.parts[number % 32] = mine;
    warp.arrived |= 1u << (number % 32);
    if (warp.arrived != 0xffffffffu) {
        give_way(State::Warp);
        return;
    }
    work(warp.parts);
    warp.arrived = 0;
    for (unsigned lane = number / 32 * 32; lane < number / 32 * 32 + 32; lane++)
        if (worker->lanes[lane].state == State::Warp) worker->lanes[lane].state = State::Ready;
}

static void copy_now(const Copy& copy) {
    if (copy.read > 0) memcpy(copy.to, copy.from, copy.read);
    memset((char*)copy.to + copy.read, 0, copy.bytes - copy.read);
}

void copy_async(void* to, const void* from, size_t bytes, size_t read) {
    expect_aligned(to, bytes);
    expect_aligned(from, bytes);
    if (read > bytes) fail("an asynchronous copy of %zu bytes reads %zu", bytes, read);
    const Copy copy = {to, from, bytes, read};
    if (worker->launch->manner.deferred)
        worker->running->open.push_back(copy);
    else
        copy_now(copy);
}

void copy_commit() {
    Lane& lane = *worker->running;
    lane.groups.push_back(std::move(lane.open));
    lane.open.clear();
}

void copy_wait(int pending) {
    Lane& lane = *worker->running;
    while (lane.groups.size() > (size_t)pending) {
        for (const Copy& copy : lane.groups.front()) copy_now(copy);
        lane.groups.erase(lane.groups.begin());
    }
}

void expect_aligned(const void* address, size_t alignment) {
    if ((uintptr_t)address % alignment != 0) fail("address %p is no multiple of %zu", address, alignment);
}

static void lane_entry() {
    Launch& launch = *worker->launch;
    launch.kernel.call(launch.kernel.function, launch.args);
    give_way(State::Done);
    abort();
}

// Fills the static shared memory of the kernels' library, which is this thread's thread-local storage of it, with NaN.
static void poison_static_shared() {
    struct Found { size_t module, bytes; } found{0, 0};
    static std::mutex lock;
    std::lock_guard<std::mutex> guard(lock);
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            const char* name = strrchr(info->dlpi_name, '/');
            if (!name || strcmp(name, "/kernels.so") != 0) return 0;
            for (int i = 0; i < info->dlpi_phnum; i++)
                if (info->dlpi_phdr[i].p_type == PT_TLS)
                    *(Found*)data = {info->dlpi_tls_modid, info->dlpi_phdr[i].p_memsz};
            return 0;
        },
        &found);
    if (found.bytes == 0) return;
    size_t place[2] = {found.module, 0};
    memset(__tls_get_addr(place), 0xff, found.bytes);
}

static bool ready(const Lane& lane) {
    return lane.state == State::Ready || (lane.state == State::Mbarrier && phase_ended(lane.mbarrier, lane.parity));
}

// Releases the threads from `begin` to `end` if all of them that still run wait in a state; whether it did. Threads that wait for the block's
// barrier at two different lines are reported.
static bool release(Worker& w, State state, unsigned begin, unsigned end) {
    const Lane* first = nullptr;
    for (unsigned i = begin; i < end; i++) {
        const Lane& lane = w.lanes[i];
        if (lane.state == State::Done) continue;
        if (lane.state != state) return false;
        if (!first) first = &lane;
        if (state == State::Barrier && (strcmp(first->file, lane.file) != 0 || first->line != lane.line)) {
            report("threads of one block wait at different barriers: %s:%d and %s:%d", first->file, first->line, lane.file, lane.line);
            return false;
        }
    }
    if (!first) return false;
    for (unsigned i = begin; i < end; i++)
        if (w.lanes[i].state == state) w.lanes[i].state = State::Ready;
    return true;
}

// Nothing goes on by itself: releases a barrier of a block or of the cluster, else brings a tile; whether there was something.
static bool go_on(Worker& w, unsigned cluster, std::minstd_rand& random) {
    const unsigned threads = w.launch->threads;
    for (unsigned rank = 0; rank < cluster; rank++)
        if (release(w, State::Barrier, rank * threads, (rank + 1) * threads)) return true;
    if (release(w, State::Cluster, 0, cluster * threads)) return true;
    const unsigned from = cluster > 1 ? (unsigned)random() % cluster : 0;
    for (unsigned i = 0; i < cluster; i++) {
        Block& block = w.blocks[(from + i) % cluster];
        if (block.hopper.bring(w, block)) return true;
    }
    return false;
}

// Nothing goes on any more: reports what threads still wait for.
static void expect_all_done(const Worker& w, unsigned threads) {
    for (unsigned i = 0; i < threads; i++) {
        const Lane& lane = w.lanes[i];
        if (lane.state == State::Warp)
            report("thread %u waits for the rest of its warp, which will not come: a barrier or an operation of the warp stands under a condition", i);
        if (lane.state == State::Mbarrier)
            report("thread %u waits for the end of an mbarrier's phase of parity %u, which does not come: arrivals or bytes are missing", i, lane.parity);
        if (lane.state == State::Named) report("thread %u waits at named barrier %u for threads that do not come", i, lane.named);
        if (lane.state == State::Cluster) report("thread %u waits for its cluster, of which not all threads come", i);
    }
}

// Bytes of a block's dynamic shared memory, as many as its start needs to be aligned.
static size_t room(const Launch& launch) { return (launch.shared + 127) / 128 * 128; }

static void prepare_cluster(Worker& w, const Launch& launch, size_t cluster) {
    const unsigned blocks = launch.kernel.cluster;
    poison_static_shared();
    for (Warp& warp : w.warps) warp.arrived = 0;
    for (unsigned rank = 0; rank < blocks; rank++) {
        const size_t number = cluster * blocks + rank;
        const Dim place = {(unsigned)(number % launch.grid.x), (unsigned)(number / launch.grid.x % launch.grid.y),
                           (unsigned)(number / launch.grid.x / launch.grid.y)};
        Block& block = w.blocks[rank];
        block.shared = block.shared_end - room(launch);
        memset(block.shared, 0xff, room(launch));
        block.hopper.begin(block, launch, (unsigned)number);
        for (unsigned i = 0; i < launch.threads; i++) {
            Lane& lane = w.lanes[rank * launch.threads + i];
            lane.thread = {{i, 0, 0}, place, {launch.threads, 1, 1}, launch.grid};
            lane.number = rank * launch.threads + i;
            lane.state = State::Ready;
            lane.groups.clear();
            lane.open.clear();
            lane.fiber.prepare(w.stacks + STACK * lane.number, STACK, lane_entry);
        }
    }
}

// What a cluster must not leave behind.
static void expect_clean(const Worker& w, const Launch& launch) {
    const unsigned blocks = launch.kernel.cluster;
    for (unsigned i = 0; i < launch.threads * blocks && !launch.failed; i++)
        for (const auto& group : w.lanes[i].groups)
            if (!group.empty()) report("thread %u ended with copies that nobody waited for", i);
    for (unsigned rank = 0; rank < blocks && !launch.failed; rank++) {
        const Block& block = w.blocks[rank];
        if (const char* undone = block.hopper.left_undone(launch)) report("%s", undone);
        for (size_t i = launch.shared; i < room(launch); i++)
            if (block.shared[i] != 0xff) report("wrote behind its %zu bytes of shared memory", launch.shared);
    }
}

// Runs the blocks of a cluster, most often a single one. Those of more share no static shared memory here: they must have none.
static void run_cluster(Worker& w, Launch& launch, size_t cluster) {
    const unsigned blocks = launch.kernel.cluster, threads = launch.threads * blocks;
    prepare_cluster(w, launch, cluster);
    std::vector<unsigned> order(threads);
    std::iota(order.begin(), order.end(), 0u);
    if (launch.manner.order == Order::Descending) std::reverse(order.begin(), order.end());
    std::minstd_rand random((unsigned)cluster + 1);
    // In order, a warp runs as far as it can before the next one does, and a block before the other of its cluster: farthest ahead of the
    // others, it shows a barrier that is missing between them. Shuffled, all threads take turns.
    const bool shuffled = launch.manner.order == Order::Shuffled;
    const unsigned together = shuffled ? threads : 32, in_turn = shuffled ? threads : launch.threads;
    // Runs threads from `first` to `end` in that order as far as they can; whether one did.
    const auto run = [&](unsigned first, unsigned end) {
        bool any = false;
        for (bool ran = true; ran && !launch.failed; any |= ran) {
            ran = false;
            for (unsigned i = first; i < end && !launch.failed; i++) {
                Lane& lane = w.lanes[order[i]];
                if (!ready(lane)) continue;
                ran = true;
                lane.state = State::Ready;
                w.running = &lane;
                lane.fiber.resume(w.scheduler);
            }
        }
        w.running = nullptr;
        return any;
    };
    do {
        if (shuffled) std::shuffle(order.begin(), order.end(), random);
        for (bool any = true; any && !launch.failed;) {
            any = false;
            for (unsigned begin = 0; begin < threads; begin += in_turn) {
                const unsigned end = begin + in_turn, rank = order[begin] / launch.threads;
                for (bool ran = true; ran && !launch.failed; any |= ran) {
                    ran = false;
                    for (unsigned first = begin; first < end; first += together) ran |= run(first, std::min(first + together, end));
                    if (!shuffled && blocks > 1 && !launch.failed)
                        ran |= release(w, State::Barrier, rank * launch.threads, (rank + 1) * launch.threads);
                }
            }
        }
    } while (!launch.failed && go_on(w, blocks, random));
    expect_all_done(w, threads);
    expect_clean(w, launch);
}

// The system's threads, kept between launches.
struct Crew {
    std::mutex mutex;
    std::condition_variable wake, idle;
    Launch* launch = nullptr;
    unsigned generation = 0, busy = 0;
    std::vector<std::thread> threads;

    Crew() {
        const char* wanted = getenv("CUDA_HOST_THREADS");
        unsigned number = wanted ? (unsigned)atoi(wanted) : std::thread::hardware_concurrency();
        for (unsigned i = 0; i < (number ? number : 1); i++) threads.emplace_back([this] { work(); });
        for (std::thread& thread : threads) thread.detach();
    }

    void work() {
        worker = new Worker;
        unsigned seen = 0;
        for (;;) {
            Launch* mine;
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return generation != seen; });
                seen = generation;
                mine = launch;
            }
            worker->launch = mine;
            const size_t clusters = (size_t)mine->grid.x * mine->grid.y * mine->grid.z / mine->kernel.cluster;
            for (size_t i; !mine->failed && (i = mine->next++) < clusters;) run_cluster(*worker, *mine, i);
            std::lock_guard<std::mutex> lock(mutex);
            if (--busy == 0) idle.notify_all();
        }
    }

    void run(Launch& what) {
        std::unique_lock<std::mutex> lock(mutex);
        launch = &what;
        busy = (unsigned)threads.size();
        generation++;
        wake.notify_all();
        idle.wait(lock, [&] { return busy == 0; });
    }
};

static std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

void enter(const Kernel& kernel) { kernels()[kernel.name] = kernel; }

const Kernel* find(const char* name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

bool run(const Kernel& kernel, Dim grid, unsigned threads, size_t shared, void** args, Manner manner) {
    static std::mutex one_at_a_time;
    static Crew* crew = new Crew;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    Launch launch;
    launch.kernel = kernel;
    launch.grid = grid;
    launch.threads = threads;
    launch.shared = shared;
    launch.args = args;
    launch.manner = manner;
    crew->run(launch);
    return !launch.failed;
}

}  // namespace cuda_host
