// c = (c +) a·Wᵀ (+ bias) (+ residual), or of a SwiGLU, as in matmul.wgsl, by cooperative matrices: tensor cores and their kin.
//   a [m, k] in f32, rounded to f16 when it is read; W [n, k] in f16; c, residual [m, n] and bias [n] in f32, and so are sums.
// Each may be a part of a larger matrix: it begins at an element of its binding and has a stride from row to row.
//
// A fragment is SIZE × SIZE, 16 or 8, and held by a subgroup. A workgroup makes 4 × 8 fragments of c, its first four subgroups
// 2 × 4 each; where its invocations are more subgroups than that, the others help to load and to store. DEPTH of k at a time pass
// through workgroup memory, zeros past the ends of a and W; while they are multiplied, the next come into registers. Six fragments
// from workgroup memory serve eight products. Rows in workgroup memory are 24 elements apart, so that eight of them lie in
// different banks. Sums go through workgroup memory too, a fragment of each subgroup at a time: what is added to them is not
// laid out as fragments are, and c need not end where one does.
// The sum over k runs in the order of k, fragment by fragment, whatever the shape: a row's bits do not depend on the other rows.
// Bound by arithmetic where tiles fill the GPU; not measured on one.
//
// wide: where rows of a and W begin at multiples of four elements and k is one. Vectors of four are read.
// narrow: everywhere else.

@group(0) @binding(1) var<storage, read> a: array<f32>; // [m, k]
@group(0) @binding(1) var<storage, read> a_wide: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<f16>; // [n, k]
@group(0) @binding(2) var<storage, read> b_wide: array<vec4h>;

/// Subgroups that multiply, in a square.
const WORKERS: u32 = 4u;
const ROWS: u32 = 4u * SIZE;
const COLUMNS: u32 = 8u * SIZE;
const DEPTH: u32 = 16u;
const STRIDE: u32 = 24u;
/// Elements of a fragment.
const AREA: u32 = SIZE * SIZE;
/// Vectors of four in a row of a tile, and those of both tiles that an invocation brings.
const FOURS: u32 = DEPTH / 4u;
const A_EACH: u32 = (ROWS * FOURS + INVOCATIONS - 1u) / INVOCATIONS;
const B_EACH: u32 = (COLUMNS * FOURS + INVOCATIONS - 1u) / INVOCATIONS;

var<workgroup> tile_a: array<f16, ROWS * STRIDE>; // [ROWS, STRIDE], DEPTH of each row in use
var<workgroup> tile_b: array<f16, COLUMNS * STRIDE>; // [COLUMNS, STRIDE]
var<workgroup> tile_c: array<f32, WORKERS * AREA>; // a fragment of each subgroup

// What this invocation brings next.
var<private> next_a: array<vec4h, A_EACH>;
var<private> next_b: array<vec4h, B_EACH>;

// The subgroup's fragments of c, by row and column.
var<private> c00: Sums;
var<private> c01: Sums;
var<private> c02: Sums;
var<private> c03: Sums;
var<private> c10: Sums;
var<private> c11: Sums;
var<private> c12: Sums;
var<private> c13: Sums;

/// Place `i` of a tile in vectors of four: its row (or column) and its place of k.
fn place(i: u32) -> vec2u {
    return vec2u(i / FOURS, i % FOURS * 4u);
}

fn bring_wide(first_row: u32, first_column: u32, start: u32, index: u32) {
    for (var i = 0u; i < A_EACH; i++) {
        let at = place(index + i * INVOCATIONS) + vec2u(first_row, start);
        next_a[i] = vec4h();
        if at.x < params.m && at.y < params.k {
            next_a[i] = vec4h(a_wide[(params.a_first + at.x * params.a_stride + at.y) / 4u]);
        }
    }
    for (var i = 0u; i < B_EACH; i++) {
        let at = place(index + i * INVOCATIONS) + vec2u(first_column, start);
        next_b[i] = vec4h();
        if at.x < params.n && at.y < params.k {
            next_b[i] = b_wide[(params.b_first + at.x * params.b_stride + at.y) / 4u];
        }
    }
}

fn bring(first_row: u32, first_column: u32, start: u32, index: u32) {
    for (var i = 0u; i < A_EACH; i++) {
        let at = place(index + i * INVOCATIONS) + vec2u(first_row, start);
        next_a[i] = vec4h();
        for (var j = 0u; j < 4u; j++) {
            if at.x < params.m && at.y + j < params.k {
                next_a[i][j] = f16(a[params.a_first + at.x * params.a_stride + at.y + j]);
            }
        }
    }
    for (var i = 0u; i < B_EACH; i++) {
        let at = place(index + i * INVOCATIONS) + vec2u(first_column, start);
        next_b[i] = vec4h();
        for (var j = 0u; j < 4u; j++) {
            if at.x < params.n && at.y + j < params.k {
                next_b[i][j] = b[params.b_first + at.x * params.b_stride + at.y + j];
            }
        }
    }
}

/// Puts what was brought into workgroup memory.
fn put(index: u32) {
    for (var i = 0u; i < A_EACH; i++) {
        let at = place(index + i * INVOCATIONS);
        if at.x < ROWS {
            let first = at.x * STRIDE + at.y;
            tile_a[first] = next_a[i].x;
            tile_a[first + 1u] = next_a[i].y;
            tile_a[first + 2u] = next_a[i].z;
            tile_a[first + 3u] = next_a[i].w;
        }
    }
    for (var i = 0u; i < B_EACH; i++) {
        let at = place(index + i * INVOCATIONS);
        if at.x < COLUMNS {
            let first = at.x * STRIDE + at.y;
            tile_b[first] = next_b[i].x;
            tile_b[first + 1u] = next_b[i].y;
            tile_b[first + 2u] = next_b[i].z;
            tile_b[first + 3u] = next_b[i].w;
        }
    }
}

/// Adds what is in workgroup memory to the fragments of a subgroup.
fn multiply(subgroup: u32) {
    if subgroup >= WORKERS {
        return;
    }
    let row = subgroup / 2u * 2u * SIZE;
    let column = subgroup % 2u * 4u * SIZE;
    for (var depth = 0u; depth < DEPTH; depth += SIZE) {
        let at_a = row * STRIDE + depth;
        let at_b = column * STRIDE + depth;
        // Rows of a one after the other, and columns of Wᵀ.
        let a0 = coopLoadT<Left>(&tile_a[at_a], STRIDE);
        let a1 = coopLoadT<Left>(&tile_a[at_a + SIZE * STRIDE], STRIDE);
        let b0 = coopLoad<Right>(&tile_b[at_b], STRIDE);
        let b1 = coopLoad<Right>(&tile_b[at_b + SIZE * STRIDE], STRIDE);
        let b2 = coopLoad<Right>(&tile_b[at_b + 2u * SIZE * STRIDE], STRIDE);
        let b3 = coopLoad<Right>(&tile_b[at_b + 3u * SIZE * STRIDE], STRIDE);
        c00 = coopMultiplyAdd(a0, b0, c00);
        c01 = coopMultiplyAdd(a0, b1, c01);
        c02 = coopMultiplyAdd(a0, b2, c02);
        c03 = coopMultiplyAdd(a0, b3, c03);
        c10 = coopMultiplyAdd(a1, b0, c10);
        c11 = coopMultiplyAdd(a1, b1, c11);
        c12 = coopMultiplyAdd(a1, b2, c12);
        c13 = coopMultiplyAdd(a1, b3, c13);
    }
}

/// Where element `i` of tile_c stands in the workgroup's tile of c, for the fragments in this row and column of each subgroup's.
fn element(i: u32, row: u32, column: u32) -> vec2u {
    let subgroup = i / AREA;
    let within = vec2u(i / SIZE % SIZE, i % SIZE);
    return vec2u(subgroup / 2u * 2u + row, subgroup % 2u * 4u + column) * SIZE + within;
}

/// Puts what c holds into tile_c.
fn fetch(first: vec2u, row: u32, column: u32, index: u32) {
    workgroupBarrier();
    for (var i = index; i < WORKERS * AREA; i += INVOCATIONS) {
        let at = first + element(i, row, column);
        tile_c[i] = 0.0;
        if at.x < params.m && at.y < params.n {
            tile_c[i] = c[params.c_first + at.x * params.c_stride + at.y];
        }
    }
    workgroupBarrier();
}

/// Stores what is in tile_c.
fn give(first: vec2u, row: u32, column: u32, index: u32) {
    workgroupBarrier();
    for (var i = index; i < WORKERS * AREA; i += INVOCATIONS) {
        let at = first + element(i, row, column);
        if at.x < params.m && at.y < params.n {
            store(at.x, at.y, tile_c[i]);
        }
    }
    workgroupBarrier();
}

/// Begins the sums of a subgroup with what c holds.
fn begin_sums(first: vec2u, subgroup: u32, index: u32) {
    let works = subgroup < WORKERS;
    let at = subgroup * AREA;
    fetch(first, 0u, 0u, index);
    if works { c00 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 0u, 1u, index);
    if works { c01 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 0u, 2u, index);
    if works { c02 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 0u, 3u, index);
    if works { c03 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 1u, 0u, index);
    if works { c10 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 1u, 1u, index);
    if works { c11 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 1u, 2u, index);
    if works { c12 = coopLoadT<Sums>(&tile_c[at], SIZE); }
    fetch(first, 1u, 3u, index);
    if works { c13 = coopLoadT<Sums>(&tile_c[at], SIZE); }
}

fn store_sums(first: vec2u, subgroup: u32, index: u32) {
    let works = subgroup < WORKERS;
    let at = subgroup * AREA;
    if works { coopStoreT(c00, &tile_c[at], SIZE); }
    give(first, 0u, 0u, index);
    if works { coopStoreT(c01, &tile_c[at], SIZE); }
    give(first, 0u, 1u, index);
    if works { coopStoreT(c02, &tile_c[at], SIZE); }
    give(first, 0u, 2u, index);
    if works { coopStoreT(c03, &tile_c[at], SIZE); }
    give(first, 0u, 3u, index);
    if works { coopStoreT(c10, &tile_c[at], SIZE); }
    give(first, 1u, 0u, index);
    if works { coopStoreT(c11, &tile_c[at], SIZE); }
    give(first, 1u, 1u, index);
    if works { coopStoreT(c12, &tile_c[at], SIZE); }
    give(first, 1u, 2u, index);
    if works { coopStoreT(c13, &tile_c[at], SIZE); }
    give(first, 1u, 3u, index);
}

@compute @workgroup_size(INVOCATIONS)
fn wide(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let first = vec2u(group.y * ROWS, group.x * COLUMNS);
    if ACCUMULATE == 1u {
        begin_sums(first, subgroup, index);
    }
    bring_wide(first.x, first.y, 0u, index);
    for (var start = 0u; start < params.k; start += DEPTH) {
        put(index);
        workgroupBarrier();
        bring_wide(first.x, first.y, start + DEPTH, index);
        multiply(subgroup);
        workgroupBarrier();
    }
    workgroupBarrier();
    store_sums(first, subgroup, index);
}

@compute @workgroup_size(INVOCATIONS)
fn narrow(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let first = vec2u(group.y * ROWS, group.x * COLUMNS);
    if ACCUMULATE == 1u {
        begin_sums(first, subgroup, index);
    }
    bring(first.x, first.y, 0u, index);
    for (var start = 0u; start < params.k; start += DEPTH) {
        put(index);
        workgroupBarrier();
        bring(first.x, first.y, start + DEPTH, index);
        multiply(subgroup);
        workgroupBarrier();
    }
    workgroupBarrier();
    store_sums(first, subgroup, index);
}
