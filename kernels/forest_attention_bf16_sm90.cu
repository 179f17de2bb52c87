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
// Bound by memory: by queries, outputs and leaf keys of the many rows that see few keys. See NOTES.md.
#include "common/attention_rows.cuh"
#include "common/hopper.cuh"

namespace lea {
namespace {

constexpr unsigned MULTIPLYING = 2;  // Warpgroups.
constexpr unsigned GROUP_ROWS = 64;
constexpr unsigned TILE = MULTIPLYING * GROUP_ROWS;
constexpr unsigned THREADS = (1 + MULTIPLYING) * WARPGROUP;
constexpr unsigned WARPS_THAT_READ = MULTIPLYING * WARPGROUP / WARP;
constexpr unsigned UNIT = 16;    // Keys of a copy; depth of one product.
constexpr unsigned CHUNK = 64;   // Keys of a slot.
constexpr unsigned PANEL = CHUNK * SWIZZLED_ROW;  // Bytes of 64 columns of a slot.
constexpr unsigned SLOTS = 8;
constexpr unsigned BRINGING = WARPGROUP - WARP;  // Threads that bring queries and leaves.
constexpr unsigned READING = MULTIPLYING * WARPGROUP;

// The keys that a tile's rows share, each range from a new unit on.
struct PlacedKeys {
    unsigned start[3], length[3];

    __device__ __forceinline__ unsigned units_of(int range) const { return (length[range] + UNIT - 1) / UNIT; }
    __device__ __forceinline__ unsigned units() const { return units_of(0) + units_of(1) + units_of(2); }
    // The first key of a unit; behind the last unit, where the copy engine finds no keys and writes zeros.
    __device__ __forceinline__ int key(unsigned unit) const {
        if (unit < units_of(0)) return start[0] + unit * UNIT;
        unit -= units_of(0);
        if (unit < units_of(1)) return start[1] + unit * UNIT;
        unit -= units_of(1);
        return unit < units_of(2) ? (int)(start[2] + unit * UNIT) : -(int)UNIT;
    }
    // Behind the place of the last of the first `count` keys.
    __device__ __forceinline__ unsigned end(unsigned count) const {
        if (count <= length[0]) return count;
        count -= length[0];
        const unsigned second = units_of(0) * UNIT;
        if (count <= length[1]) return second + count;
        return second + units_of(1) * UNIT + count - length[1];
    }
    // Whether one of them stands at a place.
    __device__ __forceinline__ bool holds(unsigned place) const {
        const unsigned second = units_of(0) * UNIT, third = second + units_of(1) * UNIT;
        return place < length[0] || (place >= second && place < second + length[1]) || place >= third;
    }
    // Whether no place of the chunk from `from` on is without a key before one with a key.
    __device__ __forceinline__ bool gapless(unsigned from) const {
        const unsigned second = units_of(0) * UNIT, third = second + units_of(1) * UNIT, to = from + CHUNK;
        return (second == length[0] || length[1] + length[2] == 0 || from >= second || to <= length[0]) &&
               (third == second + length[1] || length[2] == 0 || from >= third || to <= second + length[1]);
    }
};

struct HopperShape {
    unsigned heads, group;
    float scale;
    size_t items;
};

struct Item {
    PlacedKeys keys;
    size_t first_row;
    unsigned kv_head, skipped, rows, first_leaf, leaves;

    // Where the tile of an item stands.
    __device__ __forceinline__ static const uint4* tile_of(size_t number, const HopperShape& shape, const uint4* tiles) {
        const unsigned parts = (shape.group + TILE - 1) / TILE, kv_heads = shape.heads / shape.group;
        return tiles + 3 * (number / parts / kv_heads);
    }
    __device__ __forceinline__ Item(size_t number, const HopperShape& shape, const uint4* tile) {
        const unsigned parts = (shape.group + TILE - 1) / TILE, kv_heads = shape.heads / shape.group;
        const uint4 head = tile[0], tail = tile[1], own = tile[2];
        first_leaf = own.x;
        leaves = own.y;
        keys = {{head.z, head.w, tail.x}, {tail.y, tail.z, tail.w}};
        first_row = head.x;
        kv_head = number / parts % kv_heads;
        skipped = number % parts * TILE;
        rows = min(head.y * shape.group - skipped, TILE);
    }
    // Row and head of a row of the product, as one number: rows of [rows, heads].
    __device__ __forceinline__ size_t place(unsigned row, const HopperShape& shape) const {
        const unsigned i = row + skipped;
        return (first_row + i / shape.group) * shape.heads + kv_head * shape.group + i % shape.group;
    }
    // What rows_of says of a row of the product.
    __device__ __forceinline__ uint4 of(const uint4* rows_of, unsigned group, unsigned row) const {
        return row < rows ? rows_of[first_row + (row + skipped) / group] : make_uint4(0, 0, 0, 0);
    }
};

// Slots of keys and values in turn, each with a barrier of its bytes and one of the warps that have read it.
template <int WIDTH>
struct Ring {
    static constexpr unsigned SLOT = CHUNK * WIDTH * sizeof(bf16);
    unsigned char* slots;
    Mbarrier *full, *read;
    unsigned turn;

    __device__ __forceinline__ explicit Ring(unsigned char* memory) {
        slots = memory + (SWIZZLED_ROWS - shared_address(memory) % SWIZZLED_ROWS) % SWIZZLED_ROWS;
        full = (Mbarrier*)(slots + SLOTS * SLOT);
        read = full + SLOTS;
        turn = 0;
    }
    __device__ __forceinline__ void begin() {
        if (threadIdx.x == 0) {
            for (unsigned i = 0; i < SLOTS; i++) mbarrier_init(full + i, 1), mbarrier_init(read + i, WARPS_THAT_READ);
            fence_mbarrier_init();
        }
        __syncthreads();
    }
    __device__ __forceinline__ unsigned char* slot() const { return slots + turn % SLOTS * SLOT; }
    __device__ __forceinline__ unsigned parity() const { return turn / SLOTS % 2; }
    // The slot has its keys or values.
    __device__ __forceinline__ void wait() { mbarrier_wait(full + turn % SLOTS, parity()); }
    // This warp has read it.
    __device__ __forceinline__ void leave() {
        if (threadIdx.x % WARP == 0) mbarrier_arrive(read + turn % SLOTS);
        turn++;
    }
};

// Brings the chunk of units from `first` on into the ring's next slot. A lane brings 64 columns of a unit.
template <int WIDTH>
__device__ __forceinline__ void bring(const TensorMap* map, const Item& item, unsigned first, Ring<WIDTH>& ring) {
    constexpr unsigned PANELS = WIDTH / 64;
    const unsigned unit = threadIdx.x / PANELS, panel = threadIdx.x % PANELS;
    Mbarrier* full = ring.full + ring.turn % SLOTS;
    mbarrier_wait(ring.read + ring.turn % SLOTS, ring.parity() ^ 1);
    if (threadIdx.x == 0) mbarrier_arrive_expect_tx(full, ring.SLOT);
    if (unit < CHUNK / UNIT)
        tma_load_2d(ring.slot() + panel * PANEL + unit * UNIT * SWIZZLED_ROW, map, item.kv_head * WIDTH + panel * 64,
                    item.keys.key(first + unit), full);
    ring.turn++;
}

// What a warpgroup needs of its 64 rows of an item.
struct GroupRows {
    unsigned mine[2];     // Rows of the product that the lane holds.
    unsigned end[2];      // Behind the place of the last shared key that they see,
    unsigned most, least;  // and that any row sees, and all rows do.

    // `of(row)`: what rows_of says of a row of the product.
    template <class Of>
    __device__ __forceinline__ GroupRows(const Item& item, Of of) {
        const unsigned first = (threadIdx.x / WARPGROUP - 1) * GROUP_ROWS, lane = threadIdx.x % WARP;
        const unsigned of_warp = first + threadIdx.x % WARPGROUP / WARP * 16;
        for (int r = 0; r < 2; r++) {
            mine[r] = of_warp + lane / 4 + 8 * r;
            end[r] = item.keys.end(of(mine[r]).x);
        }
        most = 0;
        unsigned hidden = 0;  // The complement of what all see.
        for (unsigned row = first + lane; row < first + GROUP_ROWS; row += WARP)
            if (row < item.rows) {
                const unsigned seen = item.keys.end(of(row).x);
                most = max(most, seen);
                hidden = max(hidden, ~seen);
            }
        most = warp_most(most);
        least = ~warp_most(hidden);
    }
};

// What an item's rows have for themselves, in bf16, in shared memory: queries, what rows_of says of rows and the tile's numbers; leaf keys and values. Chunk c of 16
// bytes of a row r stands at place c ^ r % 8, so that eight rows of one chunk lie in different banks. Of each part one barrier of those
// who bring it and one of those who have read it.
template <int WIDTH>
struct Own {
    static constexpr unsigned CHUNKS = WIDTH / 8, MATRIX = TILE * WIDTH * sizeof(bf16);
    unsigned char *queries, *keys, *values;
    uint4* tile;
    unsigned* said;  // Three words a row.
    Mbarrier *queries_full, *queries_read, *leaves_full, *leaves_read;
    unsigned turn;

    // Behind the ring.
    __device__ __forceinline__ explicit Own(const Ring<WIDTH>& ring) {
        queries = (unsigned char*)(ring.read + SLOTS);
        keys = queries + MATRIX;
        values = keys + MATRIX;
        tile = (uint4*)(values + MATRIX);
        queries_full = (Mbarrier*)(tile + 3);
        queries_read = queries_full + 1;
        leaves_full = queries_full + 2;
        leaves_read = queries_full + 3;
        said = (unsigned*)(queries_full + 4);
        turn = 0;
    }
    __device__ __forceinline__ void begin() {
        if (threadIdx.x == 0) {
            mbarrier_init(queries_full, BRINGING);
            mbarrier_init(queries_read, READING);
            mbarrier_init(leaves_full, BRINGING);
            mbarrier_init(leaves_read, READING);
        }
    }
    __device__ __forceinline__ static unsigned char* chunk(unsigned char* matrix, unsigned row, unsigned c) {
        return matrix + row * (WIDTH * sizeof(bf16)) + ((c ^ row % 8) * 16);
    }
    // What rows_of says of a row of the product.
    __device__ __forceinline__ uint4 of(unsigned row) const { return make_uint4(said[3 * row], said[3 * row + 1], said[3 * row + 2], 0); }
    __device__ __forceinline__ unsigned parity() const { return turn % 2; }
    __device__ __forceinline__ bool hold_leaves(const Item& item) const { return item.leaves <= TILE; }
};

// Brings an item's queries, then its leaf keys and values.
template <int WIDTH>
__device__ __forceinline__ void bring_own(const Item& item, const uint4* tile, const HopperShape& shape, const uint4* rows_of, const bf16* q, const bf16* leaf_k,
                                          const bf16* leaf_v, Own<WIDTH>& own) {
    const unsigned first = threadIdx.x - WARP;
    mbarrier_wait(own.queries_read, own.parity() ^ 1);
    for (unsigned i = first; i < TILE * own.CHUNKS; i += BRINGING) {
        const unsigned row = i / own.CHUNKS, c = i % own.CHUNKS;
        const bool there = row < item.rows;
        cp_async_16(own.chunk(own.queries, row, c), q + (there ? item.place(row, shape) * WIDTH + c * 8 : 0), there ? 16 : 0);
    }
    for (unsigned row = first; row < TILE; row += BRINGING) {
        const uint4 of_row = item.of(rows_of, shape.group, row);
        own.said[3 * row] = of_row.x;
        own.said[3 * row + 1] = of_row.y;
        own.said[3 * row + 2] = of_row.z;
    }
    if (first < 3) cp_async_16(own.tile + first, tile + first);
    cp_async_commit();
    cp_async_wait<0>();
    mbarrier_arrive(own.queries_full);
    mbarrier_wait(own.leaves_read, own.parity() ^ 1);
    if (own.hold_leaves(item)) {
        const size_t pitch = (size_t)(shape.heads / shape.group) * WIDTH, from = item.first_leaf * pitch + item.kv_head * WIDTH;
        for (unsigned i = first; i < item.leaves * own.CHUNKS; i += BRINGING) {
            const unsigned row = i / own.CHUNKS, c = i % own.CHUNKS;
            cp_async_16(own.chunk(own.keys, row, c), leaf_k + from + row * pitch + c * 8);
            cp_async_16(own.chunk(own.values, row, c), leaf_v + from + row * pitch + c * 8);
        }
    }
    cp_async_commit();
    cp_async_wait<0>();
    mbarrier_arrive(own.leaves_full);
    own.turn++;
}

// An item's leaf keys as `add_leaf` takes them, from shared memory. Four blocks of eight rows at a time.
template <int WIDTH>
struct OwnLeaves {
    const Own<WIDTH>& own;
    unsigned first;

    __device__ __forceinline__ void key(unsigned at, bool sees, int block, unsigned (&to)[4]) const { four(own.keys, at, sees, block, to); }
    __device__ __forceinline__ void value(unsigned at, bool sees, int block, unsigned (&to)[4]) const { four(own.values, at, sees, block, to); }

    // Lane 8 m + i tells where row i has its block m.
    __device__ __forceinline__ void four(unsigned char* matrix, unsigned at, bool sees, int block, unsigned (&to)[4]) const {
        const unsigned lane = threadIdx.x % WARP, row = shuffle(sees ? at - first : 0, lane % 8 * 4);
        ldmatrix_x4(to, own.chunk(matrix, row, block + lane / 8));
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
    if (BROUGHT) mbarrier_wait(own.queries_full, own.parity());
    const Item item(number, shape, BROUGHT ? own.tile : Item::tile_of(number, shape, tiles));
    const GroupRows group(item, [&](unsigned row) { return BROUGHT ? own.of(row) : item.of(rows_of, shape.group, row); });
    const unsigned t = threadIdx.x % 4, units = item.keys.units();
    unsigned query[WIDTH / UNIT][4];  // Left factors of products.
    uint4 leaf[2];
    if (BROUGHT) {
        const unsigned lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 - WARPGROUP / WARP * 16 + lane % 16;
#pragma unroll
        for (int step = 0; step < WIDTH / (int)UNIT; step++) ldmatrix_x4(query[step], own.chunk(own.queries, row, 2 * step + lane / 16));
        for (int r = 0; r < 2; r++) leaf[r] = own.of(group.mine[r]);
        mbarrier_arrive(own.queries_read);
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
    if (BROUGHT) mbarrier_wait(own.leaves_full, own.parity());
    if (!BROUGHT)
        for (int r = 0; r < 2; r++) leaf[r] = again.of(rows_of, shape.group, group.mine[r]);
    if (BROUGHT && own.hold_leaves(again))
        add_leaf(OwnLeaves<WIDTH>{own, again.first_leaf}, pair_at, factor, leaf, rows);
    else
        add_leaf(LeafKeys<WIDTH, true, T>{leaf_k + of_head, leaf_v + of_head, pitch, WIDTH}, pair_at, factor, leaf, rows);
    if (BROUGHT) {
        mbarrier_arrive(own.leaves_read);
        own.turn++;
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

template <int WIDTH, class T, class Out>
__device__ __forceinline__ void hopper_attention(const TensorMap* keys, const TensorMap* values, const HopperShape& shape, const uint4* tiles,
                                                 const uint4* rows_of, const T* q, const T* leaf_k, const T* leaf_v, Out* out, float* lse,
                                                 unsigned char* memory) {
    constexpr bool BROUGHT = sizeof(T) == sizeof(bf16);
    Ring<WIDTH> ring(memory);
    Own<WIDTH> own(ring);
    if (BROUGHT) own.begin();
    ring.begin();
    if (threadIdx.x < WARPGROUP) {
        setmaxnreg_dec<BROUGHT ? 40 : 24>();
        const bool loads = threadIdx.x < WARP;
        for (size_t number = blockIdx.x; number < shape.items && (loads || BROUGHT); number += gridDim.x) {
            const uint4* tile = Item::tile_of(number, shape, tiles);
            const Item item(number, shape, tile);
            if (!loads) {
                bring_own(item, tile, shape, rows_of, (const bf16*)q, (const bf16*)leaf_k, (const bf16*)leaf_v, own);
                continue;
            }
            for (unsigned first = 0; first < item.keys.units(); first += CHUNK / UNIT) {
                bring(keys, item, first, ring);
                bring(values, item, first, ring);
            }
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
    KERNEL_ALONE(lea::THREADS, lea_forest_attention_bf16_sm90_forward_##width##_##in_name##_##out_name, TENSOR_MAP(keys),           \
                 TENSOR_MAP(values), size_t items, unsigned heads, unsigned group, float scale, const unsigned* tiles,              \
                 const unsigned* rows_of, const in* q, const in* leaf_k, const in* leaf_v, out_type* out, float* lse) {             \
        DYNAMIC_SHARED(memory);                                                                                                     \
        lea::hopper_attention<width>(&keys, &values, {heads, group, scale, items}, (const uint4*)tiles, (const uint4*)rows_of, q,   \
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
