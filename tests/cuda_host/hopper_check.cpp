// Checks hopper.cpp, wgmma.cpp and tensor_map.cpp against the PTX ISA's layouts, written down here a second time from its tables
// ("Register fragments for wgmma.mma_async.m64nNk16", "Shared memory matrix layout", swizzling of tensor copies) and the driver's
// rules for tensor maps; and that each mistake in their use is reported or changes the result.
#include <cstdio>
#include <cstring>
#include <vector>

#include "hopper.cuh"
#include "run.h"

extern "C" int cuTensorMapEncodeTiled(void*, int, unsigned, void*, const unsigned long long*, const unsigned long long*,
                                      const unsigned*, const unsigned*, int, int, int, int);

static int defects = 0;
static void expect(bool holds, const char* what, int one = 0, int two = 0) {
    if (!holds && defects++ < 10) printf("%s: %d, %d\n", what, one, two);
}

// What a kernel does wrong, if anything.
static unsigned wrong = 0;
static const unsigned SLICE = 1024 * 8;  // A slice of 64 rows of 64 elements.

static unsigned char* aligned(unsigned char* memory) { return memory + (1024 - lea::shared_address(memory) % 1024) % 1024; }

// A matrix [ROWS, COLUMNS] in rows of PITCH elements, and boxes of 64 elements of 24 rows.
static const int ROWS = 37, COLUMNS = 100, PITCH = 104, BOX = 24;
alignas(16) static uint16_t matrix[ROWS][PITCH];
alignas(64) static lea::TensorMap map;
static uint16_t brought[BOX][64];
static int box_column, box_row;

KERNEL_ALONE(128, check_copy, TENSOR_MAP(map)) {
    DYNAMIC_SHARED(memory);
    unsigned char* slice = aligned(memory);
    lea::Mbarrier* barrier = (lea::Mbarrier*)(slice + SLICE);
    if (threadIdx.x == 0) {
        if (wrong != 1) lea::mbarrier_init(barrier, 1);
        if (wrong != 2) lea::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        if (wrong == 3) lea::mbarrier_arrive(barrier);
        if (wrong == 4) lea::mbarrier_arrive_expect_tx(barrier, 64 * BOX * 2 + 16);
        if (wrong == 5) lea::mbarrier_arrive_expect_tx(barrier, 64 * BOX * 2), lea::mbarrier_arrive(barrier);
        if (wrong != 3 && wrong != 4 && wrong != 5 && wrong != 6) lea::mbarrier_arrive_expect_tx(barrier, 64 * BOX * 2);
        lea::tma_load_2d(slice + (wrong == 7 ? 128 : wrong == 8 ? 64 : 0), &map, box_column, box_row, barrier);
    }
    if (wrong != 9) lea::mbarrier_wait(barrier, wrong == 10 ? 1 : 0);
    for (int at = threadIdx.x; at < BOX * 64; at += 128) {
        const int row = at / 64, chunk = at % 64 / 8;
        memcpy(&brought[row][at % 64], slice + row * 128 + (chunk ^ row % 8) * 16 + at % 8 * 2, 2);
    }
}

// A box of 6 rows of 4 heads from the same memory seen as [ROWS / 5, 5, COLUMNS].
static const int HEADS = 5, HEADS_BOX = 4, ROWS_BOX = 6;
static int box_head;
KERNEL_ALONE(128, check_heads, TENSOR_MAP(map)) {
    DYNAMIC_SHARED(memory);
    unsigned char* slice = aligned(memory);
    lea::Mbarrier* barrier = (lea::Mbarrier*)(slice + SLICE);
    if (threadIdx.x == 0) lea::mbarrier_init(barrier, 1), lea::fence_mbarrier_init();
    __syncthreads();
    if (threadIdx.x == 0) {
        lea::mbarrier_arrive_expect_tx(barrier, 64 * BOX * 2);
        if (wrong == 1) lea::tma_load_2d(slice, &map, box_column, box_row, barrier);
        else if (wrong == 2) lea::tma_load_3d(slice, &map, box_column, box_row, box_head, barrier);
        else lea::tma_load_3d(slice, &map, box_column, box_head, box_row, barrier);
    }
    lea::mbarrier_wait(barrier, 0);
    for (int at = threadIdx.x; at < BOX * 64; at += 128) {
        const int row = at / 64, chunk = at % 64 / 8;
        memcpy(&brought[row][at % 64], slice + row * 128 + (chunk ^ row % 8) * 16 + at % 8 * 2, 2);
    }
}

static bf16 element_a[64][16], element_b[16][256];
static float start[64][256], product[64][256];
static bool accumulate;

// Where an element stands in slices whose rows run along k, from element 16 `step` on, and along m or n, in panels of SLICE
// bytes.
static unsigned along_k(int side, int k, int step) { return side * 128 + (((k + 16 * step) / 8) ^ side % 8) * 16 + k % 8 * 2; }
static unsigned along_side(int side, int k, int step) {
    return side / 64 * SLICE + (k + 16 * step) * 128 + ((side % 64 / 8) ^ k % 8) * 16 + side % 8 * 2;
}

template <int N, bool TRANSPOSED_A, bool TRANSPOSED_B, bool REGISTERS>
static void multiply() {
    DYNAMIC_SHARED(memory);
    unsigned char *a = aligned(memory), *b = a + SLICE;
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, step = 2;
    for (int at = thread; at < 64 * 16; at += 128)
        memcpy(a + (TRANSPOSED_A ? along_side : along_k)(at / 16, at % 16, step), &element_a[at / 16][at % 16], 2);
    for (int at = thread; at < N * 16; at += 128)
        memcpy(b + (TRANSPOSED_B ? along_side : along_k)(at / 16, at % 16, step), &element_b[at % 16][at / 16], 2);
    if (wrong != 1) lea::fence_proxy_async();
    __syncthreads();
    const auto row_of = [&](int i) { return warp * 16 + lane / 4 + (i & 2 ? 8 : 0); };
    const auto column_of = [&](int i) { return i / 4 * 8 + lane % 4 * 2 + (i & 1); };
    float d[N / 2];
    for (int i = 0; i < N / 2; i++) d[i] = accumulate ? start[row_of(i)][column_of(i)] : NAN;
    const int ahead_a = step * (TRANSPOSED_A ? 16 * 128 : 32), ahead_b = step * (TRANSPOSED_B ? 16 * 128 : 32);
    const unsigned long long at_a = lea::matrix_descriptor(a + ahead_a, 1024, SLICE);
    unsigned long long at_b = lea::matrix_descriptor(b + ahead_b, 1024, SLICE);
    if (wrong == 2 && warp == 3) at_b += 2;
    if (wrong == 3) at_b ^= 3ull << 62;
    if (wrong != 4) lea::wgmma_fence();
    unsigned registers[4];
    for (int i = 0; i < 4; i++) {
        const int row = warp * 16 + lane / 4 + (i & 1 ? 8 : 0), k = lane % 4 * 2 + (i & 2 ? 8 : 0);
        registers[i] = element_a[row][k].bits | (unsigned)element_a[row][k + 1].bits << 16;
    }
    if (wrong == 8 && warp == 3) return;
    if constexpr (REGISTERS) lea::wgmma<N, TRANSPOSED_B>(d, registers, at_b, accumulate);
    else lea::wgmma<N, TRANSPOSED_A, TRANSPOSED_B>(d, at_a, at_b, accumulate);
    if (wrong == 5) registers[0] = 0;
    if (wrong == 6) memset(b, 0, SLICE), lea::fence_proxy_async();
    if (wrong != 7) lea::wgmma_commit();
    if (wrong == 9) lea::wgmma_wait<1>(d);
    else lea::wgmma_wait<0>(d);
    for (int i = 0; i < N / 2; i++) product[row_of(i)][column_of(i)] = d[i];
}

#define MULTIPLY(name, ...) \
    KERNEL_ALONE(128, name, unsigned) { multiply<__VA_ARGS__>(); }
MULTIPLY(check_32, 32, false, false, false)
MULTIPLY(check_64, 64, false, false, false)
MULTIPLY(check_64_nt, 64, false, true, false)
MULTIPLY(check_64_tn, 64, true, false, false)
MULTIPLY(check_96, 96, false, false, false)
MULTIPLY(check_96_r, 96, false, false, true)
MULTIPLY(check_128_tt, 128, true, true, false)
MULTIPLY(check_128_r, 128, false, false, true)
MULTIPLY(check_256, 256, false, false, false)
MULTIPLY(check_256_rt, 256, false, true, true)

// Both blocks of a pair bring half of a slice for both, and tell each other when they have read it.
static uint16_t brought_by_pair[2][2][2][BOX][64];  // Of a block, a round, a half.
KERNEL_PAIR(128, check_pair, TENSOR_MAP(map)) {
    DYNAMIC_SHARED(memory);
    unsigned char* slice = aligned(memory);
    lea::Mbarrier *full = (lea::Mbarrier*)(slice + SLICE), *empty = full + 1;
    const unsigned rank = lea::cluster_rank();
    if (threadIdx.x == 0) {
        lea::mbarrier_init(full, 1), lea::mbarrier_init(empty, wrong == 1 ? 8 : 2);
        lea::fence_mbarrier_init();
    }
    if (wrong == 2) __syncthreads();
    else lea::cluster_sync();
    for (int round = 0; round < 2; round++) {
        if (threadIdx.x == 0) {
            if (wrong != 3) lea::mbarrier_wait(empty, round ^ 1);
            lea::mbarrier_arrive_expect_tx(full, 64 * BOX * 2 * (wrong == 4 ? 1 : 2));
            unsigned char* const half = slice + (wrong == 5 ? 0 : rank) * SLICE / 2;
            const int row = (round * 2 + (int)rank) * 4;
            if (wrong == 6) lea::tma_load_2d(half, &map, 8, row, full);
            else lea::tma_load_2d_pair(half, &map, 8, row, full);
        }
        lea::mbarrier_wait(full, round);
        for (int at = threadIdx.x; at < 2 * BOX * 64; at += 128) {
            const int half = at / 64 / BOX, r = at / 64 % BOX, chunk = at % 64 / 8;
            memcpy(&brought_by_pair[rank][round][half][r][at % 64],
                   slice + half * SLICE / 2 + r * 128 + (chunk ^ r % 8) * 16 + at % 8 * 2, 2);
        }
        __syncthreads();
        if (threadIdx.x < 2) lea::mbarrier_arrive_at(empty, wrong == 7 ? rank : wrong == 8 ? threadIdx.x + 1 : threadIdx.x);
    }
    if (wrong != 9) lea::cluster_sync();
}

// Two warpgroups of three hand numbers to each other by named barriers, and registers.
static int handed[128];
KERNEL_ALONE(384, check_warps, unsigned) {
    DYNAMIC_SHARED(memory);
    volatile int* place = (volatile int*)memory;
    const int thread = threadIdx.x;
    if (thread < 128) {
        if (wrong != 1) lea::setmaxnreg_dec<48>();
        if (wrong == 2) lea::setmaxnreg_dec<64>();
        place[thread] = thread;
        if (wrong != 3) lea::named_barrier_arrive(1, wrong == 4 ? 128 : wrong == 5 ? 192 : 256);
        lea::named_barrier_sync(2, 256);
        handed[thread] = place[128 + thread];
    } else if (thread < 256) {
        if (wrong != 6 || thread < 192) lea::setmaxnreg_inc<256>();
        if (wrong != 7) lea::named_barrier_sync(1, 256);
        place[thread] = place[thread - 128] + 1;
        lea::named_barrier_arrive(wrong == 8 ? 16 : 2, 256);
    }
}

static bool run(const char* name, unsigned threads, size_t shared, void* argument, bool late, cuda_host::Order order) {
    void* args[] = {argument};
    return cuda_host::run(*cuda_host::find(name), {cuda_host::find(name)->cluster, 1, 1}, threads, shared, args, {late, order});
}
static const cuda_host::Order ORDERS[] = {cuda_host::Order::Ascending, cuda_host::Order::Descending, cuda_host::Order::Shuffled};

// Whether the kernel is wrong in its numbers or by report, in one of all manners.
template <class F>
static bool found(unsigned number, F right) {
    wrong = number;
    bool all = true;
    for (const bool late : {true, false})
        for (const cuda_host::Order order : ORDERS) all &= right(late, order);
    wrong = 0;
    return !all;
}

static bool copies(bool late, cuda_host::Order order) {
    memset(brought, 0xff, sizeof brought);
    if (!run("check_copy", 128, SLICE + 1024 + 64, &map, late, order)) return false;
    for (int row = 0; row < BOX; row++)
        for (int column = 0; column < 64; column++) {
            const int r = box_row + row, c = box_column + column;
            const uint16_t want = r >= 0 && r < ROWS && c >= 0 && c < COLUMNS ? matrix[r][c] : 0;
            if (brought[row][column] != want) return false;
        }
    return true;
}

static bool heads(bool late, cuda_host::Order order) {
    memset(brought, 0xff, sizeof brought);
    if (!run("check_heads", 128, SLICE + 1024 + 64, &map, late, order)) return false;
    for (int i = 0; i < BOX; i++)
        for (int column = 0; column < 64; column++) {
            const int h = box_head + i % HEADS_BOX, r = box_row + i / HEADS_BOX, c = box_column + column;
            const bool there = h >= 0 && h < HEADS && r >= 0 && r < ROWS / HEADS && c >= 0 && c < COLUMNS;
            if (brought[i][column] != (there ? matrix[r * HEADS + h][c] : 0)) return false;
        }
    return true;
}

static bool pairs(bool late, cuda_host::Order order) {
    memset(brought_by_pair, 0xff, sizeof brought_by_pair);
    if (!run("check_pair", 128, SLICE + 1024 + 64, &map, late, order)) return false;
    for (int place = 0; place < 4; place++)
        for (int row = 0; row < BOX; row++)
            for (int column = 0; column < 64; column++) {
                const int r = place * 4 + row;
                const uint16_t want = r < ROWS ? matrix[r][8 + column] : 0;
                for (auto& block : brought_by_pair)
                    if (block[place / 2][place % 2][row][column] != want) return false;
            }
    return true;
}

static bool multiplies(const char* name, int n, bool late, cuda_host::Order order) {
    for (auto& row : product)
        for (float& x : row) x = NAN;
    unsigned none = 0;
    if (!run(name, 128, SLICE * 5 + 1024, &none, late, order)) return false;
    for (int m = 0; m < 64; m++)
        for (int column = 0; column < n; column++) {
            float want = accumulate ? start[m][column] : 0;
            for (int k = 0; k < 16; k++) want += lea::to_float(element_a[m][k]) * lea::to_float(element_b[k][column]);
            if (product[m][column] != want) return false;
        }
    return true;
}

static bool hands(bool late, cuda_host::Order order) {
    memset(handed, 0, sizeof handed);
    unsigned none = 0;
    if (!run("check_warps", 384, 1024, &none, late, order)) return false;
    for (int i = 0; i < 128; i++)
        if (handed[i] != i + 1) return false;
    return true;
}

// A map of the matrix, in which one thing may be otherwise.
struct Wanted {
    int type = 9;
    unsigned rank = 2;
    char* address = (char*)matrix;
    unsigned long long extents[2] = {COLUMNS, ROWS}, stride = PITCH * 2;
    unsigned box[2] = {64, BOX}, element_strides[2] = {1, 1};
    int interleave = 0, swizzle = 3, fill = 0;

    bool made(void* to = &map) const {
        return cuTensorMapEncodeTiled(to, type, rank, address, extents, &stride, box, element_strides, interleave, swizzle, 0,
                                      fill) == 0;
    }
};

static void check_maps() {
    Wanted w;
    expect(!Wanted(w).made((char*)&map + 16), "a map at a multiple of 16");
    const auto refused = [&](int number, auto change) {
        Wanted other;
        change(other);
        expect(!other.made(), "a map was made", number);
    };
    refused(1, [](Wanted& w) { w.address += 8; });
    refused(2, [](Wanted& w) { w.stride = 2 * PITCH + 8; });
    refused(3, [](Wanted& w) { w.stride = 192; });
    refused(4, [](Wanted& w) { w.stride = 1ull << 40; });
    refused(5, [](Wanted& w) { w.extents[1] = 0; });
    refused(6, [](Wanted& w) { w.extents[1] = (1ull << 32) + 1; });
    refused(7, [](Wanted& w) { w.box[1] = 257; });
    refused(8, [](Wanted& w) { w.box[0] = 72; });
    refused(9, [](Wanted& w) { w.box[0] = 12; });
    refused(10, [](Wanted& w) { w.box[1] = 0; });
    refused(11, [](Wanted& w) { w.element_strides[1] = 9; });
    refused(12, [](Wanted& w) { w.interleave = 1; });
    refused(13, [](Wanted& w) { w.swizzle = 9; });
    refused(14, [](Wanted& w) { w.type = 1, w.fill = 1; });
    refused(15, [](Wanted& w) { w.rank = 0; });
    refused(16, [](Wanted& w) { w.type = -1; });
    refused(17, [](Wanted& w) { w.address = nullptr; });
    expect(w.made(), "a map was refused");
}

int main() {
    unsigned state = 1;
    const auto next = [&] { return (float)((int)((state = state * 1664525u + 1013904223u) >> 24) % 17 - 8); };
    for (auto& row : element_a)
        for (bf16& x : row) x = lea::to_bf16(next());
    for (auto& row : element_b)
        for (bf16& x : row) x = lea::to_bf16(next());
    for (auto& row : start)
        for (float& x : row) x = next();
    for (auto& row : matrix)
        for (uint16_t& x : row) x = (uint16_t)(1000 + (&x - matrix[0]));

    check_maps();
    for (const auto& [column, row] : {std::pair{0, 0}, {64, 24}, {-8, -3}, {40, 30}, {96, 36}, {8, 13}, {200, 100}}) {
        box_column = column, box_row = row;
        expect(!found(0, copies), "a box", column, row);
    }
    box_column = 8, box_row = 9;
    for (unsigned number = 1; number <= 10; number++) expect(found(number, copies), "a mistaken copy was taken", (int)number);
    expect(!found(0, pairs), "a pair of blocks");
    for (unsigned number = 1; number <= 9; number++) expect(found(number, pairs), "a mistaken pair was taken", (int)number);
    const unsigned long long extents[] = {COLUMNS, HEADS, ROWS / HEADS}, strides[] = {PITCH * 2, PITCH * 2 * HEADS};
    const unsigned box[] = {64, HEADS_BOX, ROWS_BOX}, ones[] = {1, 1, 1};
    expect(cuTensorMapEncodeTiled(&map, 9, 3, matrix, extents, strides, box, ones, 0, 3, 0, 0) == 0, "a map of heads was refused");
    for (const auto& [column, head, row] : {std::tuple{0, 0, 0}, {64, 1, 1}, {8, 3, 2}, {-8, -1, -2}, {40, 4, 6}, {0, 9, 0}}) {
        box_column = column, box_head = head, box_row = row;
        expect(!found(0, heads), "a box of heads", column, row);
    }
    box_column = 8, box_head = 1, box_row = 0;
    for (unsigned number = 1; number <= 2; number++) expect(found(number, heads), "a mistaken box of heads was taken", (int)number);
    expect(Wanted().made(), "a map was refused");
    box_head = 0;
    expect(found(0, heads), "a map of rank 2 was taken for a box of heads");
    map.opaque[0] ^= 1;
    expect(found(0, copies), "a map that no driver made was taken");

    const std::pair<const char*, int> all[] = {
        {"check_32", 32},   {"check_64", 64},      {"check_64_nt", 64},  {"check_64_tn", 64}, {"check_96", 96},
        {"check_96_r", 96}, {"check_128_tt", 128}, {"check_128_r", 128}, {"check_256", 256},  {"check_256_rt", 256}};
    for (const auto& [name, n] : all)
        for (const bool add : {false, true}) {
            accumulate = add;
            const auto right = [&, name = name, n = n](bool late, cuda_host::Order order) {
                return multiplies(name, n, late, order);
            };
            expect(!found(0, right), name, add);
        }
    const auto registers = [](bool late, cuda_host::Order order) { return multiplies("check_128_r", 128, late, order); };
    for (unsigned number = 1; number <= 9; number++)
        expect(found(number, registers), "a mistaken product was taken", (int)number);

    expect(!found(0, hands), "named barriers");
    for (unsigned number = 1; number <= 8; number++) expect(found(number, hands), "a mistake among warps was taken", (int)number);
    return defects != 0;
}
