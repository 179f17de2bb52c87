// A stand-in for NVIDIA's libcublasLt: the calls that are made of it, on the CPU in plain loops. It refuses what the library refuses
// (leading dimensions too short or not aligned, types that do not go together) and checks that no description is used after its end.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14 };
enum { COMPUTE_32F = 68 };
enum { TRANSA = 3, EPILOGUE = 7, BIAS_POINTER = 8 };
enum { EPILOGUE_DEFAULT = 1, EPILOGUE_BIAS = 4 };

struct Layout { int type; std::uint64_t rows, columns; std::int64_t stride; };
struct Description { std::uint32_t transposed = 0, epilogue = EPILOGUE_DEFAULT; const float* bias = nullptr; };
struct Preference { std::size_t workspace = 0; };
struct Algorithm { std::uint64_t data[8]; };
struct Heuristic { Algorithm algorithm; std::size_t workspace; int state; float waves; int reserved[4]; };

// What was made and not destroyed; of several devices, which threads use at the same time.
static std::set<const void*> live;
static std::mutex of_live;

static bool lives(const void* made) {
    std::lock_guard<std::mutex> lock(of_live);
    return live.count(made) > 0;
}

template <typename T> static int make(T** out, T value) {
    *out = new T(value);
    std::lock_guard<std::mutex> lock(of_live);
    live.insert(*out);
    return SUCCESS;
}
template <typename T> static int destroy(T* made) {
    {
        std::lock_guard<std::mutex> lock(of_live);
        if (!live.erase(made)) return INVALID_VALUE;
    }
    delete made;
    return SUCCESS;
}
static float widened(std::uint16_t half) {
    const std::uint32_t bits = std::uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
static std::uint16_t rounded(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// What the library would say to these operands: left is k×n or, transposed, n×k; right k×m; out n×m.
static int refuses(const Description* d, const Layout* left, const Layout* right, const Layout* out) {
    for (const void* used : {(const void*)d, (const void*)left, (const void*)right, (const void*)out})
        if (!lives(used)) return INVALID_VALUE;
    if (left->type != R_16BF || right->type != R_16BF) return NOT_SUPPORTED;
    // What is added to a result in bf16 must be so too.
    if (out->type != R_32F && (out->type != R_16BF || d->epilogue != EPILOGUE_DEFAULT)) return NOT_SUPPORTED;
    for (const Layout* of : {left, right, out})
        if (of->stride < std::int64_t(of->rows)) return INVALID_VALUE;
    if (left->stride % 8 || right->stride % 8) return NOT_SUPPORTED;
    const std::uint64_t n = d->transposed ? left->columns : left->rows, k = d->transposed ? left->rows : left->columns;
    const bool fit = right->rows == k && out->rows == n && out->columns == right->columns;
    return fit ? SUCCESS : INVALID_VALUE;
}

extern "C" {

std::size_t cublasLtGetVersion() { return 130001; }
int cublasLtCreate(int** handle) { return make(handle, 0); }
int cublasLtDestroy(int* handle) { return destroy(handle); }

int cublasLtMatmulDescCreate(Description** out, int compute, int scale) {
    return compute == COMPUTE_32F && scale == R_32F ? make(out, Description{}) : NOT_SUPPORTED;
}
int cublasLtMatmulDescDestroy(Description* d) { return destroy(d); }
int cublasLtMatmulDescSetAttribute(Description* d, int attribute, const void* value, std::size_t bytes) {
    if (!lives(d)) return INVALID_VALUE;
    void* place = attribute == TRANSA ? (void*)&d->transposed : attribute == EPILOGUE ? (void*)&d->epilogue
                : attribute == BIAS_POINTER ? (void*)&d->bias : nullptr;
    if (!place || bytes != (attribute == BIAS_POINTER ? sizeof(void*) : 4)) return INVALID_VALUE;
    std::memcpy(place, value, bytes);
    return SUCCESS;
}

int cublasLtMatrixLayoutCreate(Layout** out, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t stride) {
    return make(out, Layout{type, rows, columns, stride});
}
int cublasLtMatrixLayoutDestroy(Layout* layout) { return destroy(layout); }

int cublasLtMatmulPreferenceCreate(Preference** out) { return make(out, Preference{}); }
int cublasLtMatmulPreferenceDestroy(Preference* preference) { return destroy(preference); }
int cublasLtMatmulPreferenceSetAttribute(Preference* p, int attribute, const void* value, std::size_t bytes) {
    if (!lives(p) || attribute != 1 || bytes != sizeof(std::size_t)) return INVALID_VALUE;
    std::memcpy(&p->workspace, value, bytes);
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(int* handle, Description* d, Layout* left, Layout* right, Layout* c, Layout* out,
                                   Preference* p, int wanted, Heuristic* found, int* count) {
    if (!lives(handle) || !lives(p) || c != out || wanted != 1) return INVALID_VALUE;
    if (const int why = refuses(d, left, right, out)) return why;
    std::memset(found, 0, sizeof *found);
    found->algorithm.data[0] = 0x1ea;
    found->workspace = p->workspace;
    *count = 1;
    return SUCCESS;
}

int cublasLtMatmul(int* handle, Description* d, const float* alpha, const std::uint16_t* a, Layout* left,
                   const std::uint16_t* b, Layout* right, const float* beta, const float* c, Layout*, void* out, Layout* of,
                   const Algorithm* algorithm, void* workspace, std::size_t bytes, void* stream) {
    if (!lives(handle) || algorithm->data[0] != 0x1ea || !stream) return INVALID_VALUE;
    if (const int why = refuses(d, left, right, of)) return why;
    for (const void* address : {(const void*)a, (const void*)b})
        if ((std::uintptr_t)address % 16) return NOT_SUPPORTED;
    const bool halves = of->type == R_16BF;
    if (halves && *beta != 0) return NOT_SUPPORTED;
    // A kernel may write all of its workspace.
    std::memset(workspace, 0x5a, bytes);
    const std::uint64_t k = right->rows;
    for (std::uint64_t row = 0; row < of->columns; ++row)
        for (std::uint64_t column = 0; column < of->rows; ++column) {
            float sum = 0;
            for (std::uint64_t i = 0; i < k; ++i) {
                const std::uint64_t at = d->transposed ? column * left->stride + i : i * left->stride + column;
                sum += widened(a[at]) * widened(b[row * right->stride + i]);
            }
            const std::uint64_t at = row * of->stride + column;
            const float added = *beta == 0 ? 0 : *beta * c[at];
            const float value = *alpha * sum + added + (d->epilogue == EPILOGUE_BIAS ? d->bias[column] : 0);
            if (halves) ((std::uint16_t*)out)[at] = rounded(value);
            else ((float*)out)[at] = value;
        }
    return SUCCESS;
}

}  // extern "C"
