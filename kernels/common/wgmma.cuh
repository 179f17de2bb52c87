// wgmma.mma_async m64nNk16, bf16 into f32: one instruction a width, with a from shared memory or from registers. d [64, N] += a
// [64, 16] b [16, N], spread over four warps, of which warp w has rows 16 w to 16 w + 15. With g = lane / 4 and t = lane % 4:
//   d[4j], d[4j + 1] row g, columns 8j + 2t and 8j + 2t + 1; d[4j + 2], d[4j + 3] row g + 8, the same;
//   a[0] row g, columns 2t and 2t + 1; a[1] row g + 8; a[2] row g, columns 2t + 8 and 2t + 9; a[3] row g + 8, the same.
// Where `accumulate` is false, what d holds is not looked at. For hopper.cuh alone.
#pragma once

namespace lea {

template <int N, bool TRANSPOSED_A, bool TRANSPOSED_B>
struct Wgmma;

// Names of 16 registers in the text, and the registers.
#define WGMMA_NAMES_0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_NAMES_1 WGMMA_NAMES_0 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_NAMES_2 WGMMA_NAMES_1 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define WGMMA_NAMES_3 WGMMA_NAMES_2 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define WGMMA_NAMES_7 WGMMA_NAMES_3 \
    ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79" \
    ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95" \
    ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
    ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define WGMMA_FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_SUMS_0(i) WGMMA_FOUR(i), WGMMA_FOUR(i + 4), WGMMA_FOUR(i + 8), WGMMA_FOUR(i + 12)
#define WGMMA_SUMS_1(i) WGMMA_SUMS_0(i), WGMMA_SUMS_0(i + 16)
#define WGMMA_SUMS_2(i) WGMMA_SUMS_1(i), WGMMA_SUMS_0(i + 32)
#define WGMMA_SUMS_3(i) WGMMA_SUMS_1(i), WGMMA_SUMS_1(i + 32)
#define WGMMA_SUMS_7(i) WGMMA_SUMS_3(i), WGMMA_SUMS_3(i + 64)

// The instruction of width n, whose sums are `sums` + 1 times 16 registers; p0 to p6 name the operands behind them.
#define WGMMA(n, sums, p0, p1, p2, p3, p4, p5, p6)                                                                                \
    template <bool TRANSPOSED_A, bool TRANSPOSED_B>                                                                               \
    struct Wgmma<n, TRANSPOSED_A, TRANSPOSED_B> {                                                                                 \
        static __device__ __forceinline__ void of_shared(float (&d)[n / 2], unsigned long long a, unsigned long long b,           \
                                                         int accumulate) {                                                        \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2 ", 0;\n"                                                        \
                         "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" WGMMA_NAMES_##sums "}, %" #p0 ", %" #p1     \
                         ", p, 1, 1, %" #p3 ", %" #p4 ";\n}"                                                                      \
                         : WGMMA_SUMS_##sums(0)                                                                                   \
                         : "l"(a), "l"(b), "r"(accumulate), "n"(TRANSPOSED_A), "n"(TRANSPOSED_B)                                  \
                         : "memory");                                                                                             \
        }                                                                                                                         \
        static __device__ __forceinline__ void of_registers(float (&d)[n / 2], const unsigned (&a)[4], unsigned long long b,      \
                                                            int accumulate) {                                                     \
            static_assert(!TRANSPOSED_A, "registers hold a as it is");                                                            \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p5 ", 0;\n"                                                        \
                         "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" WGMMA_NAMES_##sums "}, {%" #p0 ", %" #p1    \
                         ", %" #p2 ", %" #p3 "}, %" #p4 ", p, 1, 1, %" #p6 ";\n}"                                                 \
                         : WGMMA_SUMS_##sums(0)                                                                                   \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED_B)                 \
                         : "memory");                                                                                             \
        }                                                                                                                         \
    };
WGMMA(32, 0, 16, 17, 18, 19, 20, 21, 22)
WGMMA(64, 1, 32, 33, 34, 35, 36, 37, 38)
WGMMA(96, 2, 48, 49, 50, 51, 52, 53, 54)
WGMMA(128, 3, 64, 65, 66, 67, 68, 69, 70)
WGMMA(256, 7, 128, 129, 130, 131, 132, 133, 134)
#undef WGMMA

// a and b by their descriptors.
template <int N, bool TRANSPOSED_A, bool TRANSPOSED_B>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], unsigned long long a, unsigned long long b, bool accumulate) {
    Wgmma<N, TRANSPOSED_A, TRANSPOSED_B>::of_shared(d, a, b, accumulate);
}
// a in registers, which nobody may change until the product was waited for.
template <int N, bool TRANSPOSED_B>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], const unsigned (&a)[4], unsigned long long b, bool accumulate) {
    Wgmma<N, false, TRANSPOSED_B>::of_registers(d, a, b, accumulate);
}

}  // namespace lea
