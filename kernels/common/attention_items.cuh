// The work of Hopper's forest attention as its warps take it: an item is a tile and a key head (and TILE heads of a larger group), its
// product has TILE rows, of rows times heads of the group. See forest_attention_bf16_sm90.cu.
#pragma once
#include "attention_rows.cuh"
#include "hopper.cuh"

namespace lea {

constexpr unsigned MULTIPLYING = 2;  // Warpgroups.
constexpr unsigned GROUP_ROWS = 64;
constexpr unsigned TILE = MULTIPLYING * GROUP_ROWS;
constexpr unsigned UNIT = 16;   // Keys of a copy; depth of one product.
constexpr unsigned CHUNK = 64;  // Keys of a slot.

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
    unsigned kv_head, skipped, rows, first_leaf, leaves;  // Rows of the product; leaf keys, of those that rows see from the first to the last.

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

}  // namespace lea
