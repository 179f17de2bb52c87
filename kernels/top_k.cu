// The k best of every row of scores: larger first, of equal ones the smaller column; NaN never is.
//   scores [rows, m]; values, ids [rows, k]. A candidate is one 64-bit key: a score's bits as an integer of the same order, 0 for
//   none, above the complement of its column; so keys differ, and larger is better.
// One block a row finds the k-th best by radix selection, eight bits a pass over the row, and collects what is no worse.
// select_best: sorts them in shared memory, k up to MOST_SORTED. collect: leaves them in `keys` [rows, width], which sort_block,
// merge_far and merge_near sort (bitonic) and unpack writes out; width is a power of two.
// Bound by memory: two to nine reads of the row, most of them from cache.
#include "common/lea.cuh"

namespace lea {

typedef unsigned long long Key;

constexpr int TOP_THREADS = 256;
constexpr int MOST_SORTED = 1024;

__device__ __forceinline__ Key key_of(float score, size_t column) {
    const unsigned bits = __float_as_uint(score);
    unsigned ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    if ((bits & 0x7fffffffu) > 0x7f800000u) ordered = 0;
    if (bits == 0x80000000u) ordered = 0x80000000u;  // -0 is 0.
    return (Key)ordered << 32 | (unsigned)~(unsigned)column;
}

// Writes a candidate: its score and column, or -inf and the largest id where there is none.
__device__ __forceinline__ void unpack(Key key, float* value, unsigned* id) {
    const unsigned ordered = (unsigned)(key >> 32);
    *value = __uint_as_float(ordered == 0 ? 0xff800000u : ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
    *id = ordered == 0 ? 0xffffffffu : ~(unsigned)key;
}

// The `wanted` best keys of a row are those that, cut down by `mask`, are at least `prefix`.
struct Threshold { Key mask, prefix; };

__device__ __forceinline__ Threshold threshold_of(const float* row, size_t m, unsigned wanted) {
    __shared__ unsigned counts[TOP_THREADS];
    __shared__ unsigned sums[16];
    __shared__ unsigned found[3];  // Digit, how many are still wanted inside it, whether those are all it has.
    Threshold threshold = {0, 0};
    for (int digit = 0; digit < 8; digit++) {
        counts[threadIdx.x] = 0;
        __syncthreads();
        const int shift = 56 - 8 * digit;
        for (size_t i = threadIdx.x; i < m; i += TOP_THREADS) {
            const Key key = key_of(row[i], i);
            if ((key & threshold.mask) == threshold.prefix) count_up(&counts[(unsigned)(key >> shift) & 255u]);
        }
        __syncthreads();
        if (threadIdx.x < 16) {
            unsigned sum = 0;
            for (int i = 0; i < 16; i++) sum += counts[threadIdx.x * 16 + i];
            sums[threadIdx.x] = sum;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            unsigned left = wanted;
            int sixteen = 15;
            for (; sixteen > 0 && sums[sixteen] < left; sixteen--) left -= sums[sixteen];
            int bucket = sixteen * 16 + 15;
            for (; bucket > sixteen * 16 && counts[bucket] < left; bucket--) left -= counts[bucket];
            found[0] = (unsigned)bucket;
            found[1] = left;
            found[2] = counts[bucket] == left;
        }
        __syncthreads();
        wanted = found[1];
        threshold.mask |= (Key)255 << shift;
        threshold.prefix |= (Key)found[0] << shift;
        if (found[2] != 0) break;  // Else the next digit writes what was found behind barriers of its own.
    }
    return threshold;
}

// Orders a pair whose better key belongs first, or last.
__device__ __forceinline__ void order(Key* keys, size_t low, size_t distance, bool descending) {
    const Key a = keys[low], b = keys[low + distance];
    if ((b > a) == descending) {
        keys[low] = b;
        keys[low + distance] = a;
    }
}

__device__ __forceinline__ size_t low_of(size_t i, size_t distance) { return i / distance * distance * 2 + i % distance; }

// The steps of a merge into runs of `run` inside a block, which begins at key `base` of all rows; rows are `width` long.
__device__ __forceinline__ void merge_block(Key* block, size_t base, size_t width, size_t run, size_t farthest) {
    for (size_t distance = farthest; distance > 0; distance /= 2) {
        for (size_t i = threadIdx.x; i < MOST_SORTED / 2; i += TOP_THREADS) {
            const size_t low = low_of(i, distance);
            order(block, low, distance, (((base + low) & (width - 1)) & run) == 0);
        }
        __syncthreads();
    }
}

}  // namespace lea

KERNEL(256, lea_top_k_select_best, size_t m, size_t k, size_t width, const float* scores, float* values, unsigned* ids) {
    using namespace lea;
    __shared__ Key best[MOST_SORTED];
    __shared__ unsigned taken;
    const float* row = scores + blockIdx.x * m;
    const Threshold threshold = threshold_of(row, m, (unsigned)(k < m ? k : m));
    for (size_t i = threadIdx.x; i < width; i += TOP_THREADS) best[i] = 0;
    if (threadIdx.x == 0) taken = 0;
    __syncthreads();
    for (size_t i = threadIdx.x; i < m; i += TOP_THREADS) {
        const Key key = key_of(row[i], i);
        if ((key & threshold.mask) >= threshold.prefix) best[count_up(&taken)] = key;
    }
    __syncthreads();
    for (size_t run = 2; run <= width; run *= 2) {
        for (size_t distance = run / 2; distance > 0; distance /= 2) {
            for (size_t i = threadIdx.x; i < width / 2; i += TOP_THREADS) {
                const size_t low = low_of(i, distance);
                order(best, low, distance, (low & run) == 0);
            }
            __syncthreads();
        }
    }
    for (size_t i = threadIdx.x; i < k; i += TOP_THREADS) {
        const size_t place = blockIdx.x * k + i;
        unpack(i < width ? best[i] : 0, &values[place], &ids[place]);
    }
}

KERNEL(256, lea_top_k_collect, size_t m, size_t k, size_t width, const float* scores, unsigned long long* keys) {
    using namespace lea;
    __shared__ unsigned taken;
    const float* row = scores + blockIdx.x * m;
    const size_t wanted = k < m ? k : m;
    const Threshold threshold = threshold_of(row, m, (unsigned)wanted);
    if (threadIdx.x == 0) taken = 0;
    __syncthreads();
    Key* own = keys + blockIdx.x * width;
    for (size_t i = threadIdx.x; i < m; i += TOP_THREADS) {
        const Key key = key_of(row[i], i);
        if ((key & threshold.mask) >= threshold.prefix) own[count_up(&taken)] = key;
    }
    for (size_t i = wanted + threadIdx.x; i < width; i += TOP_THREADS) own[i] = 0;
}

// Sorts every block of MOST_SORTED keys, alternately up and down (run 0), or does the steps of a merge into runs of `run` whose
// distance stays inside blocks.
KERNEL(256, lea_top_k_sort_block, size_t width, size_t run, unsigned long long* keys) {
    using namespace lea;
    __shared__ Key block[MOST_SORTED];
    const size_t base = (size_t)blockIdx.x * MOST_SORTED;
    for (int i = threadIdx.x; i < MOST_SORTED; i += TOP_THREADS) block[i] = keys[base + i];
    __syncthreads();
    if (run == 0) {
        for (size_t small = 2; small <= MOST_SORTED; small *= 2) merge_block(block, base, width, small, small / 2);
    } else {
        merge_block(block, base, width, run, MOST_SORTED / 2);
    }
    for (int i = threadIdx.x; i < MOST_SORTED; i += TOP_THREADS) keys[base + i] = block[i];
}

// One step of a merge at a larger distance.
KERNEL(256, lea_top_k_merge_far, size_t pairs, size_t width, size_t run, size_t distance, unsigned long long* keys) {
    const size_t i = lea::global_thread();
    if (i >= pairs) return;
    const size_t low = lea::low_of(i, distance);
    lea::order(keys, low, distance, ((low & (width - 1)) & run) == 0);
}

KERNEL(256, lea_top_k_unpack, size_t len, size_t k, size_t width, const unsigned long long* keys, float* values,
       unsigned* ids) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const size_t column = i % k;
    lea::unpack(column < width ? keys[i / k * width + column] : 0, &values[i], &ids[i]);
}
