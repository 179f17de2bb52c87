// Products as in matmul.wgsl, bit for bit as its kernels, in large tiles for GPUs.
//
// A workgroup of 16 × 16 invocations makes 128 × 128 elements of c, each invocation 8 × 8 in registers: rows 4 y and 64 + 4 y and the
// three behind each, columns likewise. Eight of k at a time pass through workgroup memory, in two halves: while one is multiplied, the
// next eight come into registers and then into the other half. Four loads of four elements from workgroup memory serve 64
// multiply-adds.
// The four of a row or column group `i` at place `depth` of k lie at i ^ depth: neither the invocations that write
// (eight places of k side by side) nor those that read (groups side by side) then meet in a bank.
// Bound by arithmetic where tiles fill the GPU.

@group(0) @binding(1) var<storage, read> a: array<f32>; // [m, k] or [k, m]
@group(0) @binding(2) var<storage, read> b: array<StoredB>; // [k, n] or [n, k]

const TILE: u32 = 128u;
const DEPTH: u32 = 8u;
/// Groups of four rows or columns of a tile.
const GROUPS: u32 = 32u;
/// Vectors of a half.
const HALF: u32 = 256u;

var<workgroup> tile_a: array<vec4f, 512>; // two halves of [DEPTH, GROUPS]
var<workgroup> tile_b: array<vec4f, 512>;

fn element_a(row: u32, depth: u32) -> f32 {
    if row >= params.m || depth >= params.k {
        return 0.0;
    }
    return a[params.a_first + select(row * params.a_stride + depth, depth * params.a_stride + row, TRANSPOSE_A == 1u)];
}

fn element_b(depth: u32, column: u32) -> f32 {
    if column >= params.n || depth >= params.k {
        return 0.0;
    }
    return f32(b[params.b_first + select(depth * params.b_stride + column, column * params.b_stride + depth, TRANSPOSE_B == 1u)]);
}

/// Four rows of a from `row` on, at one place of k.
fn four_of_a(row: u32, depth: u32) -> vec4f {
    return vec4f(element_a(row, depth), element_a(row + 1u, depth), element_a(row + 2u, depth), element_a(row + 3u, depth));
}

/// Four columns of b from `column` on, at one place of k.
fn four_of_b(depth: u32, column: u32) -> vec4f {
    return vec4f(element_b(depth, column), element_b(depth, column + 1u), element_b(depth, column + 2u),
        element_b(depth, column + 3u));
}

@compute @workgroup_size(16, 16)
fn large(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group.y * TILE + local.y * 4u;
    let column = group.x * TILE + local.x * 4u;
    // What this invocation brings: a place of k and a group of four, so that neighbours walk the faster index of memory.
    let depth_a = select(index % DEPTH, index / GROUPS, TRANSPOSE_A == 1u);
    let group_a = select(index / DEPTH, index % GROUPS, TRANSPOSE_A == 1u);
    let depth_b = select(index / GROUPS, index % DEPTH, TRANSPOSE_B == 1u);
    let group_b = select(index % GROUPS, index / DEPTH, TRANSPOSE_B == 1u);
    let row_a = group.y * TILE + group_a * 4u;
    let column_b = group.x * TILE + group_b * 4u;
    let place_a = depth_a * GROUPS + (group_a ^ depth_a);
    let place_b = depth_b * GROUPS + (group_b ^ depth_b);

    var l0 = begin(row + 0u, column);
    var r0 = begin(row + 0u, column + 64u);
    var l1 = begin(row + 1u, column);
    var r1 = begin(row + 1u, column + 64u);
    var l2 = begin(row + 2u, column);
    var r2 = begin(row + 2u, column + 64u);
    var l3 = begin(row + 3u, column);
    var r3 = begin(row + 3u, column + 64u);
    var l4 = begin(row + 64u, column);
    var r4 = begin(row + 64u, column + 64u);
    var l5 = begin(row + 65u, column);
    var r5 = begin(row + 65u, column + 64u);
    var l6 = begin(row + 66u, column);
    var r6 = begin(row + 66u, column + 64u);
    var l7 = begin(row + 67u, column);
    var r7 = begin(row + 67u, column + 64u);

    tile_a[place_a] = four_of_a(row_a, depth_a);
    tile_b[place_b] = four_of_b(depth_b, column_b);
    workgroupBarrier();
    var now = 0u;
    for (var start = 0u; start < params.k; start += DEPTH) {
        let next = start + DEPTH;
        let next_a = four_of_a(row_a, next + depth_a);
        let next_b = four_of_b(next + depth_b, column_b);
        for (var depth = 0u; depth < DEPTH; depth++) {
            let at = now + depth * GROUPS;
            let low = tile_a[at + (local.y ^ depth)];
            let high = tile_a[at + ((16u + local.y) ^ depth)];
            let left = tile_b[at + (local.x ^ depth)];
            let right = tile_b[at + ((16u + local.x) ^ depth)];
            l0 = fma(vec4f(low.x), left, l0);
            r0 = fma(vec4f(low.x), right, r0);
            l1 = fma(vec4f(low.y), left, l1);
            r1 = fma(vec4f(low.y), right, r1);
            l2 = fma(vec4f(low.z), left, l2);
            r2 = fma(vec4f(low.z), right, r2);
            l3 = fma(vec4f(low.w), left, l3);
            r3 = fma(vec4f(low.w), right, r3);
            l4 = fma(vec4f(high.x), left, l4);
            r4 = fma(vec4f(high.x), right, r4);
            l5 = fma(vec4f(high.y), left, l5);
            r5 = fma(vec4f(high.y), right, r5);
            l6 = fma(vec4f(high.z), left, l6);
            r6 = fma(vec4f(high.z), right, r6);
            l7 = fma(vec4f(high.w), left, l7);
            r7 = fma(vec4f(high.w), right, r7);
        }
        now = HALF - now;
        tile_a[now + place_a] = next_a;
        tile_b[now + place_b] = next_b;
        workgroupBarrier();
    }

    store_four(row + 0u, column, l0);
    store_four(row + 0u, column + 64u, r0);
    store_four(row + 1u, column, l1);
    store_four(row + 1u, column + 64u, r1);
    store_four(row + 2u, column, l2);
    store_four(row + 2u, column + 64u, r2);
    store_four(row + 3u, column, l3);
    store_four(row + 3u, column + 64u, r3);
    store_four(row + 64u, column, l4);
    store_four(row + 64u, column + 64u, r4);
    store_four(row + 65u, column, l5);
    store_four(row + 65u, column + 64u, r5);
    store_four(row + 66u, column, l6);
    store_four(row + 66u, column + 64u, r6);
    store_four(row + 67u, column, l7);
    store_four(row + 67u, column + 64u, r7);
}
