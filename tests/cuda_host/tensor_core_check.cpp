// Checks tensor_core_host.h against the layouts of the PTX ISA, written down here a second time from its tables ("Matrix
// fragments for mma.m16n8k16", "ldmatrix", "cp.async"): element i of a thread's fragment by its row and column.
#include <cstdio>

#include "run.h"
#include "tensor_core.cuh"

static int defects = 0;
static void expect(bool holds, const char* what, int lane, int place) {
    if (!holds && defects++ < 10) printf("%s: lane %d, place %d\n", what, lane, place);
}

static bf16 element_a[16][16], element_b[16][8];
static float start[16][8], product[16][8];
static unsigned loaded[4][32][4];
alignas(16) static uint16_t matrices[33][8];
alignas(16) static unsigned char source[32][16], target[32][16];
static size_t skew;

static unsigned pair(bf16 low, bf16 high) { return low.bits | (unsigned)high.bits << 16; }

KERNEL(32, check_mma, unsigned) {
    const int lane = threadIdx.x, group = lane >> 2, in_group = lane & 3;
    unsigned a[4], b[2];
    for (int i = 0; i < 8; i += 2) {
        const int row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
        const int column = i < 4 ? in_group * 2 : in_group * 2 + 8;
        a[i / 2] = pair(element_a[row][column], element_a[row][column + 1]);
    }
    for (int i = 0; i < 4; i += 2) {
        const int row = i < 2 ? in_group * 2 : in_group * 2 + 8;
        b[i / 2] = pair(element_b[row][group], element_b[row + 1][group]);
    }
    float d[4];
    for (int i = 0; i < 4; i++) d[i] = start[i < 2 ? group : group + 8][in_group * 2 + (i & 1)];
    lea::mma_m16n8k16(d, a, b);
    for (int i = 0; i < 4; i++) product[i < 2 ? group : group + 8][in_group * 2 + (i & 1)] = d[i];
}

KERNEL(32, check_ldmatrix, unsigned) {
    const int lane = threadIdx.x;
    // Rows in an order that a mistake in the addresses would show in.
    const void* row = (const unsigned char*)matrices[(lane * 5 + 3) % 32] + skew;
    lea::ldmatrix_x4(*(unsigned(*)[4])loaded[0][lane], row);
    lea::ldmatrix_x4_trans(*(unsigned(*)[4])loaded[1][lane], row);
    lea::ldmatrix_x2(*(unsigned(*)[2])loaded[2][lane], row);
    lea::ldmatrix_x2_trans(*(unsigned(*)[2])loaded[3][lane], row);
}

KERNEL(32, check_copies, unsigned waited_for) {
    const int lane = threadIdx.x;
    lea::cp_async_16(target[lane], lane % 17 == 0 ? nullptr : source[lane], lane % 17);
    lea::cp_async_commit();
    if (waited_for) lea::cp_async_wait<0>();
}

static bool run(const char* name, unsigned argument, bool deferred) {
    void* args[] = {&argument};
    return cuda_host::run(*cuda_host::find(name), {1, 1, 1}, 32, 0, args, {deferred, cuda_host::Order::Ascending});
}

int main() {
    unsigned state = 1;
    const auto next = [&] { return (int)((state = state * 1664525u + 1013904223u) >> 24) % 17 - 8; };
    for (auto& row : element_a) for (bf16& x : row) x = lea::to_bf16((float)next());
    for (auto& row : element_b) for (bf16& x : row) x = lea::to_bf16((float)next());
    for (auto& row : start) for (float& x : row) x = (float)next();
    for (int i = 0; i < 33 * 8; i++) matrices[i / 8][i % 8] = (uint16_t)(1000 + i);
    for (int i = 0; i < 32 * 16; i++) source[i / 16][i % 16] = (unsigned char)(i + 1);

    // Whole numbers this small: the sums are exact in any order.
    expect(run("check_mma", 0, false), "mma ran", 0, 0);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            float want = start[row][column];
            for (int k = 0; k < 16; k++) want += lea::to_float(element_a[row][k]) * lea::to_float(element_b[k][column]);
            expect(product[row][column] == want, "product", row, column);
        }

    expect(run("check_ldmatrix", 0, false), "ldmatrix ran", 0, 0);
    const auto element = [](int matrix, int row, int column) { return matrices[((matrix * 8 + row) * 5 + 3) % 32][column]; };
    for (int lane = 0; lane < 32; lane++)
        for (int matrix = 0; matrix < 4; matrix++)
            for (int half = 0; half < 2; half++) {
                const unsigned want = element(matrix, lane / 4, lane % 4 * 2 + half);
                const unsigned transposed = element(matrix, lane % 4 * 2 + half, lane / 4);
                const auto found = [&](int form) { return loaded[form][lane][matrix] >> 16 * half & 0xffffu; };
                expect(found(0) == want, "ldmatrix.x4", lane, matrix);
                expect(found(1) == transposed, "ldmatrix.x4.trans", lane, matrix);
                expect(found(2) == (matrix < 2 ? want : 0), "ldmatrix.x2", lane, matrix);
                expect(found(3) == (matrix < 2 ? transposed : 0), "ldmatrix.x2.trans", lane, matrix);
            }
    for (skew = 2; skew < 16; skew += 2) expect(!run("check_ldmatrix", 0, false), "a misaligned row was taken", 0, (int)skew);

    for (const bool deferred : {true, false}) {
        memset(target, 0xff, sizeof target);
        expect(run("check_copies", 1, deferred), "copies ran", 0, 0);
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 16; i++)
                expect(target[lane][i] == (i < lane % 17 ? source[lane][i] : 0), "copied byte", lane, i);
    }
    expect(!run("check_copies", 0, true), "copies that nobody waited for were taken", 0, 0);

    expect(lea::pack_bf16(1.0f, -2.0f) == 0xc0003f80u, "pack_bf16", 0, 0);
    // Ties go to the even neighbour: 1 + 2^-8 down, 1 + 3 * 2^-8 up.
    expect(lea::pack_bf16(1.00390625f, 1.01171875f) == 0x3f823f80u, "rounding of pack_bf16", 0, 0);
    return defects != 0;
}
