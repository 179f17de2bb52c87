// A stand-in for NVIDIA's driver library (libcuda.so.1): the functions of it that are called, done on the CPU. The program's
// own path to a GPU is what is tested: loading the library, its functions, PTX, parameters, memory, errors.
//
//   CUDA_HOST_CAPABILITY=8.0   compute capabilities of its devices ("8.0,9.0"), the last one also of those that follow
//   CUDA_HOST_MEMORY=BYTES     device memory
//   CUDA_HOST_DRIVER=13000     the driver version it claims          CUDA_HOST_DEVICES=1      devices
//   CUDA_HOST_LOSE_AFTER=N     the device is lost with launch N      CUDA_HOST_OPENS=0        what opening one answers
// Allocations end where memory ends (up to their last 15 bytes), are filled with NaN, and reading or writing behind them ends
// the process with a report; so does writing up to 64 bytes ahead of them.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "run.h"
#include "tensor_map.h"

using namespace cuda_host;

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, NO_BINARY_FOR_GPU = 209,
       INVALID_PTX = 218, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719 };

static std::atomic<int> lost{OK};
static std::atomic<long> launches{0};
static Manner manner{true, Order::Shuffled};

static long setting(const char* name, long otherwise) {
    const char* text = getenv(name);
    return text ? atol(text) : otherwise;
}

// Compute capabilities in place of CUDA_HOST_CAPABILITY: what a test sets before anybody asks.
static std::string capabilities;
extern "C" void cuda_host_capabilities(const char* list) { capabilities = list; }

struct Capability { int major, minor; };
static std::vector<Capability> listed() {
    const char* given = getenv("CUDA_HOST_CAPABILITY");
    std::string text = !capabilities.empty() ? capabilities : given ? given : "8.0";
    std::vector<Capability> all;
    for (size_t at = 0; at < text.size();) {
        size_t end = text.find(',', at);
        if (end == std::string::npos) end = text.size();
        const std::string one = text.substr(at, end - at);
        const size_t point = one.find('.');
        all.push_back({atoi(one.c_str()), point == std::string::npos ? 0 : atoi(one.c_str() + point + 1)});
        at = end + 1;
    }
    return all;
}
static long devices() { return setting("CUDA_HOST_DEVICES", (long)listed().size()); }
static Capability capability(int device) {
    const std::vector<Capability> all = listed();
    return all[(size_t)device < all.size() ? (size_t)device : all.size() - 1];
}
// The device whose context a thread has; a context is the address of its place here.
static char contexts[64];
static thread_local int current_device = 0;

// What a test sets between launches.
extern "C" void cuda_host_manner(int deferred, int order) { manner = {deferred != 0, (Order)order}; }

struct Allocation { unsigned char* area; size_t area_bytes, bytes; };
static std::map<unsigned long long, Allocation> allocations;
// Bytes between an allocation and its page's borders that are looked at after each launch.
static const size_t MARGIN = 64, PAGE = 4096;
static size_t allocated = 0;
static std::mutex memory;
static size_t total() { return (size_t)setting("CUDA_HOST_MEMORY", 8L << 30); }

// A kernel touched what is not its own: the guard behind an allocation, or nothing at all.
static void on_fault(int signal, siginfo_t* info, void*) {
    char place[256], text[512];
    describe_place(place, sizeof place);
    int length = snprintf(text, sizeof text, "cuda_host: %s: illegal access to address %p (signal %d)\n", place,
                          info->si_addr, signal);
    if (write(2, text, (size_t)length) < 0) {}
    _exit(99);
}

extern "C" {

int cuInit(unsigned) {
    static std::once_flag once;
    std::call_once(once, [] {
        Dl_info info;
        dladdr((void*)&cuInit, &info);
        std::string folder = info.dli_fname;
        folder.resize(folder.rfind('/') + 1);
        if (!dlopen((folder + "kernels.so").c_str(), RTLD_NOW | RTLD_LOCAL)) {
            fprintf(stderr, "cuda_host: %s\n", dlerror());
            exit(98);
        }
        static unsigned char stack[64 << 10];
        stack_t alternative{};
        alternative.ss_sp = stack;
        alternative.ss_size = sizeof stack;
        sigaltstack(&alternative, nullptr);
        struct sigaction action{};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, nullptr);
        sigaction(SIGBUS, &action, nullptr);
    });
    return OK;
}

int cuDriverGetVersion(int* version) { *version = (int)setting("CUDA_HOST_DRIVER", 13000); return OK; }

int cuGetErrorName(int error, const char** text) {
    switch (error) {
        case INVALID_VALUE: *text = "CUDA_ERROR_INVALID_VALUE"; return OK;
        case OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; return OK;
        case NOT_FOUND: *text = "CUDA_ERROR_NOT_FOUND"; return OK;
        case NO_BINARY_FOR_GPU: *text = "CUDA_ERROR_NO_BINARY_FOR_GPU"; return OK;
        case INVALID_PTX: *text = "CUDA_ERROR_INVALID_PTX"; return OK;
        case ILLEGAL_ADDRESS: *text = "CUDA_ERROR_ILLEGAL_ADDRESS"; return OK;
        case LAUNCH_FAILED: *text = "CUDA_ERROR_LAUNCH_FAILED"; return OK;
        default: *text = nullptr; return INVALID_VALUE;
    }
}
int cuGetErrorString(int error, const char** text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == LAUNCH_FAILED ? "unspecified launch failure" : nullptr;
    return *text ? OK : INVALID_VALUE;
}

int cuDeviceGetCount(int* count) { *count = (int)devices(); return OK; }
int cuDeviceGet(int* device, int number) {
    if (number < 0 || number >= devices() || number >= (int)sizeof contexts) return INVALID_DEVICE;
    *device = number;
    return OK;
}
int cuDeviceGetName(char* name, int bytes, int) { snprintf(name, (size_t)bytes, "CPU emulation"); return OK; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = total(); return OK; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    switch (attribute) {
        case 75: *value = capability(device).major; return OK;
        case 76: *value = capability(device).minor; return OK;
        case 16: *value = 2; return OK;            // multiprocessors
        case 97: *value = (int)setting("CUDA_HOST_SHARED", 227 << 10); return OK;  // shared memory a block may ask for
        default: *value = 0; return OK;
    }
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
    *context = contexts + device;
    return (int)setting("CUDA_HOST_OPENS", OK);
}
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxSetCurrent(void* context) { current_device = (int)((char*)context - contexts); return OK; }
int cuStreamCreate(void** stream, unsigned) { *stream = (void*)&manner; return OK; }
int cuStreamDestroy_v2(void*) { return OK; }
int cuStreamSynchronize(void*) { return lost; }

// The stream is empty whenever a call returns, so an event is a time of the CPU's clock.
int cuEventCreate(void** event, unsigned) { *event = new timespec{0, 0}; return OK; }
int cuEventDestroy_v2(void* event) { delete (timespec*)event; return OK; }
int cuEventRecord(void* event, void*) {
    clock_gettime(CLOCK_MONOTONIC, (timespec*)event);
    return lost;
}
int cuEventQuery(void*) { return lost; }
int cuEventSynchronize(void*) { return lost; }
int cuEventElapsedTime(float* milliseconds, void* from, void* to) {
    const timespec &a = *(timespec*)from, &b = *(timespec*)to;
    if (a.tv_sec == 0 || b.tv_sec == 0) return INVALID_VALUE;  // was never recorded
    *milliseconds = (float)((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    return lost;
}

int cuMemGetInfo_v2(size_t* free, size_t* all) {
    std::lock_guard<std::mutex> lock(memory);
    *all = total();
    *free = *all > allocated ? *all - allocated : 0;
    return OK;
}
int cuMemAlloc_v2(unsigned long long* address, size_t bytes) {
    if (lost) return lost;
    if (bytes == 0) return INVALID_VALUE;
    std::lock_guard<std::mutex> lock(memory);
    if (allocated + bytes > total()) return OUT_OF_MEMORY;
    // As near to the end as alignment to 16 bytes allows, a margin ahead, and pages that nobody may touch at both ends.
    const size_t rounded = (bytes + 15) / 16 * 16, room = (rounded + MARGIN + PAGE - 1) / PAGE * PAGE;
    void* area = mmap(nullptr, room + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) return OUT_OF_MEMORY;
    unsigned char* inner = (unsigned char*)area + PAGE;
    mprotect(area, PAGE, PROT_NONE);
    mprotect(inner + room, PAGE, PROT_NONE);
    memset(inner, 0xff, room);
    *address = (unsigned long long)(inner + room - rounded);
    allocations[*address] = {(unsigned char*)area, room + 2 * PAGE, bytes};
    allocated += bytes;
    return OK;
}
// Ends the process if somebody wrote beside an allocation. `memory` is locked.
static void expect_margins(const char* when) {
    for (const auto& [address, a] : allocations) {
        const unsigned char* first = (const unsigned char*)address;
        bool whole = true;
        for (size_t i = 1; i <= MARGIN; i++) whole &= *(first - i) == 0xff;
        for (size_t i = a.bytes; i % 16 != 0; i++) whole &= first[i] == 0xff;
        if (whole) continue;
        fprintf(stderr, "cuda_host: %s: beside an allocation of %zu bytes something was written\n", when, a.bytes);
        _exit(99);
    }
}
int cuMemFree_v2(unsigned long long address) {
    std::lock_guard<std::mutex> lock(memory);
    auto found = allocations.find(address);
    if (found == allocations.end()) return INVALID_VALUE;
    const Allocation& a = found->second;
    allocated -= a.bytes;
    munmap(a.area, a.area_bytes);
    allocations.erase(found);
    return OK;
}
// Host memory that a real driver would pin. What stands behind it nobody may touch, as with device memory.
int cuMemHostAlloc(void** host, size_t bytes, unsigned) {
    if (lost) return lost;
    unsigned long long address;
    const int answer = cuMemAlloc_v2(&address, bytes);
    if (answer == OK) {
        std::lock_guard<std::mutex> lock(memory);
        allocated -= bytes;  // is not the device's
        *host = (void*)address;
    }
    return answer;
}
int cuMemFreeHost(void* host) {
    {
        std::lock_guard<std::mutex> lock(memory);
        auto found = allocations.find((unsigned long long)host);
        if (found == allocations.end()) return INVALID_VALUE;
        allocated += found->second.bytes;
    }
    return cuMemFree_v2((unsigned long long)host);
}
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void*) {
    if (bytes) memcpy((void*)to, from, bytes);
    return lost;
}
int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void*) {
    if (bytes) memcpy(to, (void*)from, bytes);
    return lost;
}
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void*) {
    if (bytes) memmove((void*)to, (void*)from, bytes);
    return lost;
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void*) {
    if (bytes) memset((void*)to, value, bytes);
    return lost;
}

struct Function { const Kernel* kernel; size_t shared; };
struct Module { std::string ptx; std::map<std::string, Function> functions; };

int cuModuleLoadDataEx(void** module, const void* image, unsigned, void*, void*) {
    std::string text = (const char*)image;
    const size_t target = text.find(".target sm_");
    if (text.find(".version") == std::string::npos || target == std::string::npos) return INVALID_PTX;
    // PTX for sm_90a runs on 9.0 alone, other PTX on all from its own on.
    const char* number = text.c_str() + target + strlen(".target sm_");
    const Capability here = capability(current_device);
    char* end;
    const long wanted = strtol(number, &end, 10), have = 10 * here.major + here.minor;
    if (*end == 'a' ? wanted != have : wanted > have) return NO_BINARY_FOR_GPU;
    *module = new Module{text, {}};
    return OK;
}
int cuModuleUnload(void* module) { delete (Module*)module; return OK; }

// Widths of an entry's parameters as its PTX declares them; false if it has no such entry.
static bool widths_in_ptx(const std::string& ptx, const char* name, std::vector<size_t>& widths) {
    size_t at = ptx.find(std::string(".entry ") + name + "(");
    if (at == std::string::npos) return false;
    const size_t end = ptx.find(')', at);
    static const std::map<std::string, size_t> known = {{"u64", 8}, {"b64", 8}, {"u32", 4}, {"s32", 4}, {"b32", 4}, {"f32", 4},
                                                        {"u16", 2}, {"u8", 1}, {"s8", 1}, {"f64", 8}};
    while ((at = ptx.find(".param .", at)) < end) {
        at += strlen(".param .");
        std::string type = ptx.substr(at, ptx.find(' ', at) - at);
        if (type == "align") {  // .param .align 8 .b8 name[16]: a struct
            size_t open = ptx.find('[', at);
            widths.push_back((size_t)atol(ptx.c_str() + open + 1));
        } else {
            widths.push_back(known.count(type) ? known.at(type) : 0);
        }
    }
    return true;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
    Module& m = *(Module*)module;
    std::vector<size_t> widths;
    if (!widths_in_ptx(m.ptx, name, widths)) {
        fprintf(stderr, "cuda_host: the PTX has no kernel %s\n", name);
        return NOT_FOUND;
    }
    const Kernel* kernel = find(name);
    if (!kernel) {
        fprintf(stderr, "cuda_host: %s was not compiled for the CPU\n", name);
        return NOT_FOUND;
    }
    if (std::vector<size_t>(kernel->widths, kernel->widths + kernel->parameters) != widths) {
        fprintf(stderr, "cuda_host: %s has other parameters than its PTX: run scripts/ptx\n", name);
        return NOT_FOUND;
    }
    m.functions[name] = {kernel, 48 << 10};
    *function = &m.functions[name];
    return OK;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    if (attribute == 8) ((Function*)function)->shared = (size_t)value;  // most dynamic shared memory
    return value <= 227 << 10 ? OK : INVALID_VALUE;
}

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void*, void** args, void**) {
    if (lost) return lost;
    const Function& f = *(Function*)function;
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || by != 1 || bz != 1 || bx == 0 ||
        bx > f.kernel->threads || gx % f.kernel->cluster != 0 || shared > f.shared) {
        fprintf(stderr, "cuda_host: %s: grid (%u, %u, %u) of %u threads with %u bytes cannot be launched\n", f.kernel->name,
                gx, gy, gz, bx, shared);
        return INVALID_VALUE;
    }
    if (launches++ == setting("CUDA_HOST_LOSE_AFTER", -1)) return lost = LAUNCH_FAILED;
    if (!run(*f.kernel, {gx, gy, gz}, bx, shared, args, manner)) lost = LAUNCH_FAILED;
    std::lock_guard<std::mutex> lock(memory);
    expect_margins(f.kernel->name);
    return OK;
}

}  // extern "C"
