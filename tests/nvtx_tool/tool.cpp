// A tool that listens to ranges, as a profiler does: it writes a line for each beginning and end into the file that NVTX_TOOL_LOG
// names. NVTX_TOOL_REFUSE makes it fail to attach.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

using Function = void (*)();
struct Callbacks {
    std::size_t size;
    int (*function_table)(unsigned module, Function*** table, unsigned* count);
};
struct VersionInfo {
    std::size_t size;
    std::uint32_t version, reserved;
    void (*set_injection_version)(std::uint32_t);
};

static std::FILE* log_file;

static int push(const char* name) {
    std::fprintf(log_file, "push %s\n", name);
    std::fflush(log_file);
    return 0;
}

static int pop() {
    std::fprintf(log_file, "pop\n");
    std::fflush(log_file);
    return 0;
}

extern "C" int InitializeInjectionNvtx2(const void* (*export_table)(std::uint32_t)) {
    if (std::getenv("NVTX_TOOL_REFUSE")) return 0;
    auto version = static_cast<const VersionInfo*>(export_table(3));
    auto callbacks = static_cast<const Callbacks*>(export_table(1));
    if (!version || version->size != sizeof(VersionInfo) || version->version < 2 || export_table(77)) return 0;
    if (!callbacks || callbacks->size != sizeof(Callbacks)) return 0;
    version->set_injection_version(3);
    // A profiler fills places of every module.
    for (unsigned module = 1; module <= 6; ++module) {
        Function** table = nullptr;
        unsigned count = 0;
        if (!callbacks->function_table(module, &table, &count) || !table || count < 2) return 0;
        for (unsigned i = 1; i < count; ++i) *table[i] = nullptr;
    }
    Function** core = nullptr;
    unsigned count = 0;
    if (callbacks->function_table(0, &core, &count) || callbacks->function_table(7, &core, &count)) return 0;
    callbacks->function_table(1, &core, &count);
    if (count <= 11) return 0;
    log_file = std::fopen(std::getenv("NVTX_TOOL_LOG"), "w");
    if (!log_file) return 0;
    *core[9] = reinterpret_cast<Function>(push);
    *core[11] = reinterpret_cast<Function>(pop);
    return 1;
}
