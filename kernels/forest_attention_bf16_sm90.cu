// arch: sm_90a
// Forest attention forward on Hopper: what forest_attention_bf16.cu computes, from the same inputs and index, for heads 64 or 128 wide.
//   q [rows, heads hd], leaf_k, leaf_v [keys, kv_heads hd], all f32 or all bf16; out like q, f32 or bf16;
//   keys, values [shared keys, kv_heads hd] bf16: those of them that tiles share, or all keys, by tensor maps with boxes of UNIT keys and
//   64 elements;
//   lse [rows, heads] f32, the log-sum-exp of a row's scores. Query head h reads key head h / group.
//   tiles [tiles, 12]: first row, rows, the start among shared keys and the length of the root, trunk and stem keys that they share, the
//   first of all leaf keys that they see and how many there are up to the last; nothing twice.
//   rows_of [rows, 4]: how many of the shared keys a row sees, from the first on; its leaf keys from, to; nothing.
// An item is a tile and a key head (and TILE heads of a larger group): its product has TILE rows, of rows times heads of the group. A block
// has a processor to itself and takes every gridDim.x-th item. One warp brings keys and values through a ring of slots, past the ends of
// items, so that the next item's are on their way while rows' leaves are read and outputs written; two groups of four warps multiply,
// 64 rows each, by wgmma: scores from queries in registers, which loads them once, spares their way through shared memory and leaves its
// bandwidth to the keys; outputs from weights in registers.
// In bf16 the three other warps beside the loading one bring what an item's rows have for themselves: queries as soon as the item before has
// taken its own to registers, leaf keys and values as soon as it is done. Where a tile's leaves span more keys than there is room for, and in
// f32, warpgroups read for themselves.
// The copy engine brings UNIT consecutive keys at a time to a fixed place, so each range of the shared list begins at a new unit: places behind
// a range's end hold other rows' keys, which nobody sees and whose values weigh 0 (so values must be finite). A row's own leaf keys, one
// where the closing text is empty, are no factor that rows share: they follow as f32 sums of products of the rounded values, read as they are.
// A row's bits depend on its own keys alone: chunks are counted from its first key, which is that of all rows of its tile, and units from
// each of its ranges' first; keys that it does not see weigh exactly 0; products of 16 keys are added up in the order of keys.
// Bound by L2 and memory, as far as is known: by what rows that see few keys have for themselves, and by shared keys that each tile reads
// again. See NOTES.md.
#include "common/attention_items.cuh"

namespace lea {
namespace {

constexpr unsigned THREADS = (1 + MULTIPLYING) * WARPGROUP;
constexpr unsigned READING = MULTIPLYING * WARPGROUP, WARPS_THAT_READ = READING / WARP;
constexpr unsigned PANEL = CHUNK * SWIZZLED_ROW;  // Bytes of 64 columns of a slot,
constexpr unsigned QUERY_PANEL = TILE * SWIZZLED_ROW;  // and of the queries.
constexpr unsigned SLOTS = 12;

// Slots of keys and values in turn, each with a barrier of its bytes and one of the warps that have read it.
template <int WIDTH>
struct Ring {
    static constexpr unsigned SLOT = CHUNK * WIDTH * sizeof(bf16);
    unsigned char* slots;
    Mbarrier *full, *read;
    unsigned at, turn;

    // Barriers stand `between` bytes behind the slots.
    __device__ __forceinline__ Ring(unsigned char* memory, unsigned between) {
        slots = memory + (SWIZZLED_ROWS - shared_address(memory) % SWIZZLED_ROWS) % SWIZZLED_ROWS;
        full = (Mbarrier*)(slots + SLOTS * SLOT + between);
        read = full + SLOTS;
        at = turn = 0;
    }
    __device__ __forceinline__ void begin() {
        if (threadIdx.x == 0) {
            for (unsigned i = 0; i < SLOTS; i++) mbarrier_init(full + i, 1), mbarrier_init(read + i, WARPS_THAT_READ);
            fence_mbarrier_init();
        }
        __syncthreads();
    }
    __device__ __forceinline__ unsigned char* slot() const { return slots + at * SLOT; }
    __device__ __forceinline__ void next() {
        at = at + 1 < SLOTS ? at + 1 : 0;
        turn ^= at == 0;
    }
    // The slot has its keys or values.
    __device__ __forceinline__ void wait() const { mbarrier_wait(full + at, turn); }
    // This warp has read it.
    __device__ __forceinline__ void leave() {
        warp_sync();
        if (threadIdx.x % WARP == 0) mbarrier_arrive(read + at);
        next();
    }
};

// Brings so many units to the ring's next slot, where `key(unit)` says which key one begins with. A lane brings 64 columns of a unit.
template <int WIDTH, class Key>
__device__ __forceinline__ void bring(const TensorMap* map, unsigned kv_head, unsigned units, Key key, Ring<WIDTH>& ring) {
    constexpr unsigned PANELS = WIDTH / 64;
    const unsigned unit = threadIdx.x / PANELS, panel = threadIdx.x % PANELS;
    Mbarrier* full = ring.full + ring.at;
    mbarrier_wait(ring.read + ring.at, ring.turn ^ 1);
    if (threadIdx.x == 0) mbarrier_arrive_expect_tx(full, units * UNIT * WIDTH * sizeof(bf16));
    if (unit < units) tma_load_2d(ring.slot() + panel * PANEL + unit * UNIT * SWIZZLED_ROW, map, kv_head * WIDTH + panel * 64, key(unit), full);
    ring.next();
}

// What the rows of an item in bf16 have for themselves, but for leaves: queries, swizzled as the copy engine brings them, what rows_of says
// of rows, and the tile's numbers.
template <int WIDTH>
struct Own {
    static constexpr unsigned QUERIES = TILE * WIDTH * sizeof(bf16);
    unsigned char* queries;
    Mbarrier *full, *read;
    uint4* tile;
    unsigned* said;  // Three words a row.
    unsigned turn;

    // Queries between the ring's slots and its barriers, the rest behind those.
    __device__ __forceinline__ explicit Own(const Ring<WIDTH>& ring) {
        queries = ring.slots + SLOTS * ring.SLOT;
        full = ring.read + SLOTS;
        read = full + 1;
        tile = (uint4*)(read + 1);
        said = (unsigned*)(tile + 3);
        turn = 0;
    }
    __device__ __forceinline__ void begin() {
        if (threadIdx.x == 0) mbarrier_init(full, 1 + WARP), mbarrier_init(read, READING);
    }
    // What rows_of says of a row of the product.
    __device__ __forceinline__ uint4 of(unsigned row) const { return make_uint4(said[3 * row], said[3 * row + 1], said[3 * row + 2], 0); }
};

// A warp brings what an item's rows have for themselves.
template <int WIDTH>
__device__ __forceinline__ void bring_own(const TensorMap* queries, const Item& item, const uint4* tile, const HopperShape& shape,
                                          const uint4* rows_of, Own<WIDTH>& own) {
    const unsigned lane = threadIdx.x % WARP;
    mbarrier_wait(own.read, own.turn ^ 1);
    if (lane == 0) {
        // A box has the rows and heads of a product of TILE rows, or as near as it gets.
        const unsigned heads = min(shape.group, TILE), rows = TILE / heads;
        mbarrier_arrive_expect_tx(own.full, rows * heads * WIDTH * sizeof(bf16));
        for (unsigned panel = 0; panel < WIDTH / 64; panel++)
            tma_load_3d(own.queries + panel * QUERY_PANEL, queries, panel * 64, item.kv_head * shape.group + item.skipped, item.first_row,
                        own.full);
    }
    for (unsigned row = lane; row < TILE; row += WARP) {
        const uint4 of_row = item.of(rows_of, shape.group, row);
        own.said[3 * row] = of_row.x;
        own.said[3 * row + 1] = of_row.y;
        own.said[3 * row + 2] = of_row.z;
    }
    if (lane < 3) own.tile[lane] = tile[lane];
    mbarrier_arrive(own.full);
    own.turn ^= 1;
}

// An item's leaf keys as `add_leaf` takes them, from the ring's next slots: CHUNK keys, their values, and so on. Four blocks of eight rows at a
// time, of which lane 8 m + i tells where row i has its block m.
template <int WIDTH>
struct RingLeaves {
    // Where the lane's row begins, of blocks 0 to 3, for the swizzle.
    struct Place {
        unsigned key, value;
    };
    const Ring<WIDTH>& ring;
    unsigned first;

    __device__ __forceinline__ static unsigned slots_of(unsigned leaves) { return (leaves + CHUNK - 1) / CHUNK * 2; }
    // Whether the ring has room for them.
    __device__ __forceinline__ static bool hold(unsigned leaves) { return slots_of(leaves) <= SLOTS; }

    __device__ __forceinline__ unsigned behind(unsigned slots) const {
        const unsigned at = ring.at + slots;
        return (at < SLOTS ? at : at - SLOTS) * ring.SLOT;
    }
    __device__ __forceinline__ Place place(unsigned at, bool sees) const {
        const unsigned lane = threadIdx.x % WARP, leaf = shuffle(sees ? at - first : 0, lane % 8 * 4);
        const unsigned slots = leaf / CHUNK * 2, in_slot = leaf % CHUNK * SWIZZLED_ROW + ((lane / 8) ^ (leaf % 8)) * 16;
        return {behind(slots) + in_slot, behind(slots + 1) + in_slot};
    }
    __device__ __forceinline__ void key(const Place& at, bool, int block, unsigned (&to)[4]) const { four(at.key, block, to); }
    __device__ __forceinline__ void value(const Place& at, bool, int block, unsigned (&to)[4]) const { four(at.value, block, to); }

    __device__ __forceinline__ void four(unsigned at, int block, unsigned (&to)[4]) const {
        ldmatrix_x4(to, ring.slots + block / 8 * PANEL + (at ^ block % 8 * 16));
    }
};

template <int N>
__device__ __forceinline__ float (&flat(float (&x)[N][4]))[4 * N] {
    return reinterpret_cast<float(&)[4 * N]>(x);
}

// The lane's part of the outputs of row r, times `inverse`. All lanes of the warp; nothing is written where the row is not `there`.
template <int WIDTH>
__device__ __forceinline__ void store_row(const Rows<WIDTH>& rows, int r, float inverse, float* to, bool there) {
    if (!there) return;
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++)
        *(float2*)(to + j * 8 + threadIdx.x % 4 * 2) = make_float2(rows.out[j][2 * r] * inverse, rows.out[j][2 * r + 1] * inverse);
}
template <int WIDTH>
__device__ __forceinline__ void store_row(const Rows<WIDTH>& rows, int r, float inverse, bf16* to, bool there) {
    store_rounded(rows, r, inverse, to, WIDTH, there);
}

// The rows of a warpgroup, of one item.
template <int WIDTH, class T, class Out>
__device__ __forceinline__ void attend(size_t number, const HopperShape& shape, const uint4* tiles, const uint4* rows_of, const T* q,
                                       const T* leaf_k, const T* leaf_v, Out* out, float* lse, Ring<WIDTH>& ring, Own<WIDTH>& own) {
    constexpr bool BROUGHT = sizeof(T) == sizeof(bf16);
    if (BROUGHT) mbarrier_wait(own.full, own.turn);
    const Item item(number, shape, BROUGHT ? own.tile : Item::tile_of(number, shape, tiles));
    const GroupRows group(item, [&](unsigned row) { return BROUGHT ? own.of(row) : item.of(rows_of, shape.group, row); });
    const unsigned t = threadIdx.x % 4, units = item.keys.units();
    unsigned query[WIDTH / UNIT][4];  // Left factors of products.
    uint4 leaf[2];
    if (BROUGHT) {
        const unsigned lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 - WARPGROUP / WARP * 16 + lane % 16;
        const unsigned char* from = own.queries + row * SWIZZLED_ROW;
#pragma unroll
        for (int step = 0; step < WIDTH / (int)UNIT; step++)
            ldmatrix_x4(query[step], from + step / 4 * QUERY_PANEL + ((2 * (step % 4) + lane / 16) ^ (row % 8)) * 16);
        for (int r = 0; r < 2; r++) leaf[r] = own.of(group.mine[r]);
        mbarrier_arrive(own.read);
        own.turn ^= 1;
    } else {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const bool there = group.mine[r] < item.rows;
            const T* from = q + (there ? item.place(group.mine[r], shape) * WIDTH : 0) + 2 * t;
#pragma unroll
            for (int j = 0; j < WIDTH / 8; j++) query[j / 2][r + j % 2 * 2] = there ? bf16_pair(from + j * 8) : 0;
        }
    }
    const float factor = shape.scale * LOG2_E;
    Rows<WIDTH> rows;
    rows.begin();
    for (unsigned start = 0; start < units * UNIT; start += CHUNK) {
        const bool any = start < group.most;
        float scores[CHUNK / 8][4];
        unsigned weights[CHUNK / UNIT][4];
        ring.wait();  // For the keys.
        if (any) {
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < WIDTH / (int)UNIT; step++) {
                const unsigned char* keys = ring.slot() + step / 4 * PANEL + step % 4 * 32;
                wgmma<CHUNK, false>(flat(scores), query[step], matrix_descriptor(keys, SWIZZLED_ROWS), step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>(flat(scores));
        }
        ring.leave();
        if (any) {
            const bool gapless = item.keys.gapless(start);
            if (start + CHUNK <= group.least && gapless) {
                weigh(scores, factor, rows, [](unsigned, int) { return true; });
            } else if (gapless) {
                weigh(scores, factor, rows, [&](unsigned column, int r) { return start + column < group.end[r]; });
            } else {
                weigh(scores, factor, rows, [&](unsigned column, int r) {
                    return start + column < group.end[r] && item.keys.holds(start + column);
                });
            }
#pragma unroll
            for (int block = 0; block < (int)(CHUNK / UNIT); block++) pack_weights(scores, block, weights[block]);
        }
        ring.wait();  // For the values.
        if (any) {
            wgmma_fence();
            // All of the slot, zeros too: a condition between products would make the compiler wait for each.
#pragma unroll
            for (int block = 0; block < (int)(CHUNK / UNIT); block++) {
                const unsigned long long values = matrix_descriptor(ring.slot() + block * UNIT * SWIZZLED_ROW, SWIZZLED_ROWS, PANEL);
                wgmma<WIDTH, true>(flat(rows.out), weights[block], values, true);
            }
            wgmma_commit();
            wgmma_wait<0>(flat(rows.out));
        }
        ring.leave();
    }
    for (int r = 0; r < 2; r++) rows.total[r] = quad_sum(rows.total[r]);
    // In f32 not kept all the while: registers are short.
    const Item again = BROUGHT ? item : Item(number, shape, Item::tile_of(number, shape, tiles));
    const size_t pitch = (size_t)(shape.heads / shape.group) * WIDTH, of_head = (size_t)again.kv_head * WIDTH;
    auto pair_at = [&](int r, int j) { return query[j / 2][r + j % 2 * 2]; };
    if (!BROUGHT)
        for (int r = 0; r < 2; r++) leaf[r] = again.of(rows_of, shape.group, group.mine[r]);
    if (BROUGHT && RingLeaves<WIDTH>::hold(again.leaves)) {
        const unsigned slots = RingLeaves<WIDTH>::slots_of(again.leaves);
        Ring<WIDTH> ahead = ring;
        for (unsigned i = 0; i < slots; i++) ahead.wait(), ahead.next();
        add_leaf(RingLeaves<WIDTH>{ring, again.first_leaf}, pair_at, factor, leaf, rows);
        for (unsigned i = 0; i < slots; i++) ring.leave();
    } else {
        add_leaf(LeafKeys<WIDTH, true, T>{leaf_k + of_head, leaf_v + of_head, pitch, WIDTH}, pair_at, factor, leaf, rows);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const bool there = group.mine[r] < again.rows;
        const size_t place = there ? again.place(group.mine[r], shape) : 0;
        const float inverse = 1.0f / rows.total[r];
        store_row(rows, r, inverse, out + place * WIDTH, there);
        if (there && t == 0) lse[place] = rows.log_sum(r);
    }
}

// The warp that fills the ring with the keys and values of an item.
template <int WIDTH, bool BROUGHT>
__device__ __forceinline__ void fill(const TensorMap* keys, const TensorMap* values, const Item& item, Ring<WIDTH>& ring) {
    for (unsigned first = 0; first < item.keys.units(); first += CHUNK / UNIT) {
        const auto key = [&](unsigned unit) { return item.keys.key(first + unit); };
        bring(keys, item.kv_head, CHUNK / UNIT, key, ring);
        bring(values, item.kv_head, CHUNK / UNIT, key, ring);
    }
    if constexpr (BROUGHT) {
        if (!RingLeaves<WIDTH>::hold(item.leaves)) return;
        for (unsigned first = 0; first < item.leaves; first += CHUNK) {
            const unsigned units = (min(item.leaves - first, CHUNK) + UNIT - 1) / UNIT;
            const auto key = [&](unsigned unit) { return (int)(item.first_leaf + first + unit * UNIT); };
            bring(keys, item.kv_head, units, key, ring);
            bring(values, item.kv_head, units, key, ring);
        }
    }
}

template <int WIDTH, class T, class Out>
__device__ __forceinline__ void hopper_attention(const TensorMap* queries, const TensorMap* keys, const TensorMap* values,
                                                 const HopperShape& shape, const uint4* tiles, const uint4* rows_of, const T* q,
                                                 const T* leaf_k, const T* leaf_v, Out* out, float* lse, unsigned char* memory) {
    constexpr bool BROUGHT = sizeof(T) == sizeof(bf16);
    Ring<WIDTH> ring(memory, BROUGHT ? Own<WIDTH>::QUERIES : 0);
    Own<WIDTH> own(ring);
    if (BROUGHT) own.begin();
    ring.begin();
    if (threadIdx.x < WARPGROUP) {
        setmaxnreg_dec<BROUGHT ? 40 : 24>();
        const bool fills = threadIdx.x < WARP, brings = BROUGHT && threadIdx.x / WARP == 1;
        for (size_t number = blockIdx.x; number < shape.items && (fills || brings); number += gridDim.x) {
            const uint4* tile = Item::tile_of(number, shape, tiles);
            const Item item(number, shape, tile);
            if (fills) fill<WIDTH, BROUGHT>(keys, values, item, ring);
            else bring_own(queries, item, tile, shape, rows_of, own);
        }
    } else {
        setmaxnreg_inc<BROUGHT ? 232 : 240>();
        for (size_t number = blockIdx.x; number < shape.items; number += gridDim.x)
            attend<WIDTH>(number, shape, tiles, rows_of, q, leaf_k, leaf_v, out, lse, ring, own);
    }
}

}  // namespace
}  // namespace lea

// `in`: the type of q and leaf keys.
#define FOREST_ATTENTION(width, in, in_name, out_type, out_name)                                                                    \
    KERNEL_ALONE(lea::THREADS, lea_forest_attention_bf16_sm90_forward_##width##_##in_name##_##out_name, TENSOR_MAP(queries),        \
                 TENSOR_MAP(keys), TENSOR_MAP(values), size_t items, unsigned heads, unsigned group, float scale, const unsigned* tiles,              \
                 const unsigned* rows_of, const in* q, const in* leaf_k, const in* leaf_v, out_type* out, float* lse) {             \
        DYNAMIC_SHARED(memory);                                                                                                     \
        lea::hopper_attention<width>(&queries, &keys, &values, {heads, group, scale, items}, (const uint4*)tiles, (const uint4*)rows_of, q,   \
                                     leaf_k, leaf_v, out, lse, memory);                                                             \
    }

FOREST_ATTENTION(64, float, f32, float, f32)
FOREST_ATTENTION(128, float, f32, float, f32)
FOREST_ATTENTION(64, float, f32, bf16, bf16)
FOREST_ATTENTION(128, float, f32, bf16, bf16)
FOREST_ATTENTION(64, bf16, bf16, float, f32)
FOREST_ATTENTION(128, bf16, bf16, float, f32)
FOREST_ATTENTION(64, bf16, bf16, bf16, bf16)
FOREST_ATTENTION(128, bf16, bf16, bf16, bf16)
