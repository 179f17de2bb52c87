// c = (c +) op(a)·op(b) (+ bias) (+ residual), op the identity or the transpose; of a SwiGLU g·σ(g)·(x·Wᵀ) with g in the residual's place.
//   a [m, k], or [k, m] if TRANSPOSE_A; b [k, n], or [n, k] if TRANSPOSE_B; c, residual [m, n]; bias [n].
// Each may be a part of a larger matrix: it begins at an element of its binding and has a stride from row to row.
// b's elements are f32, or f16 where frozen weights are stored so: they become f32 when they are read, sums are f32.
// A workgroup makes a tile of c; each invocation ROWS × COLUMNS elements of it in registers. The sum over k runs in its
// order for every element, whatever the shape: a row's bits do not depend on the other rows. Added to c, it goes on from c's element: a sum that is cut
// into several launches has the bits of the whole one.
//
// tiled: for GPUs. 64 × 64 tile by 16 × 16 invocations, 16 of k at a time through workgroup memory. Bound by arithmetic
// once m and n fill tiles.
// direct: for software adapters, where barriers, workgroup memory and loads are what costs and the caches of the processor
// hold the tiles: 8 × 8 elements an invocation, four multiply-adds a load.

@group(0) @binding(1) var<storage, read> a: array<f32>; // [m, k] or [k, m]
@group(0) @binding(2) var<storage, read> b: array<StoredB>; // [k, n] or [n, k]

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

var<workgroup> tile_a: array<f32, 1024>; // [DEPTH, TILE]
var<workgroup> tile_b: array<f32, 1024>; // [DEPTH, TILE]

@compute @workgroup_size(16, 16)
fn tiled(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    var sums: array<vec4f, 4>;
    for (var i = 0u; i < 4u; i++) {
        sums[i] = begin(first_row + local.y * 4u + i, first_column + local.x * 4u);
    }
    for (var start = 0u; start < params.k; start += DEPTH) {
        for (var i = index; i < TILE * DEPTH; i += 256u) {
            // The faster index of the tile walks the faster index of memory.
            var row = i % TILE;
            var depth = i / TILE;
            if TRANSPOSE_A == 0u {
                row = i / DEPTH;
                depth = i % DEPTH;
            }
            var value = 0.0;
            if first_row + row < params.m && start + depth < params.k {
                value = a[params.a_first + select((first_row + row) * params.a_stride + start + depth,
                    (start + depth) * params.a_stride + first_row + row, TRANSPOSE_A == 1u)];
            }
            tile_a[depth * TILE + row] = value;

            var column = i % TILE;
            depth = i / TILE;
            if TRANSPOSE_B == 1u {
                column = i / DEPTH;
                depth = i % DEPTH;
            }
            value = 0.0;
            if first_column + column < params.n && start + depth < params.k {
                value = f32(b[params.b_first + select((start + depth) * params.b_stride + first_column + column,
                    (first_column + column) * params.b_stride + start + depth, TRANSPOSE_B == 1u)]);
            }
            tile_b[depth * TILE + column] = value;
        }
        workgroupBarrier();
        for (var depth = 0u; depth < DEPTH; depth++) {
            let at_b = depth * TILE + local.x * 4u;
            let right = vec4f(tile_b[at_b], tile_b[at_b + 1u], tile_b[at_b + 2u], tile_b[at_b + 3u]);
            let at_a = depth * TILE + local.y * 4u;
            sums[0] = fma(vec4f(tile_a[at_a]), right, sums[0]);
            sums[1] = fma(vec4f(tile_a[at_a + 1u]), right, sums[1]);
            sums[2] = fma(vec4f(tile_a[at_a + 2u]), right, sums[2]);
            sums[3] = fma(vec4f(tile_a[at_a + 3u]), right, sums[3]);
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        store_four(first_row + local.y * 4u + i, first_column + local.x * 4u, sums[i]);
    }
}

@compute @workgroup_size(8, 4)
fn direct(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let first_row = group.y * 32u + local.y * 8u;
    let first_column = group.x * 64u + local.x * 8u;
    if first_row >= params.m || first_column >= params.n {
        return;
    }
    let row_step = select(params.a_stride, 1u, TRANSPOSE_A == 1u);
    let a_step = select(1u, params.a_stride, TRANSPOSE_A == 1u);
    let column_step = select(1u, params.b_stride, TRANSPOSE_B == 1u);
    let b_step = select(params.b_stride, 1u, TRANSPOSE_B == 1u);
    // Rows and columns past the end repeat the last one and are not stored.
    let a0 = min(first_row + 0u, params.m - 1u) * row_step;
    let a1 = min(first_row + 1u, params.m - 1u) * row_step;
    let a2 = min(first_row + 2u, params.m - 1u) * row_step;
    let a3 = min(first_row + 3u, params.m - 1u) * row_step;
    let a4 = min(first_row + 4u, params.m - 1u) * row_step;
    let a5 = min(first_row + 5u, params.m - 1u) * row_step;
    let a6 = min(first_row + 6u, params.m - 1u) * row_step;
    let a7 = min(first_row + 7u, params.m - 1u) * row_step;
    let b0 = min(first_column + 0u, params.n - 1u) * column_step;
    let b1 = min(first_column + 1u, params.n - 1u) * column_step;
    let b2 = min(first_column + 2u, params.n - 1u) * column_step;
    let b3 = min(first_column + 3u, params.n - 1u) * column_step;
    let b4 = min(first_column + 4u, params.n - 1u) * column_step;
    let b5 = min(first_column + 5u, params.n - 1u) * column_step;
    let b6 = min(first_column + 6u, params.n - 1u) * column_step;
    let b7 = min(first_column + 7u, params.n - 1u) * column_step;
    var s0l = begin(first_row + 0u, first_column);
    var s0h = begin(first_row + 0u, first_column + 4u);
    var s1l = begin(first_row + 1u, first_column);
    var s1h = begin(first_row + 1u, first_column + 4u);
    var s2l = begin(first_row + 2u, first_column);
    var s2h = begin(first_row + 2u, first_column + 4u);
    var s3l = begin(first_row + 3u, first_column);
    var s3h = begin(first_row + 3u, first_column + 4u);
    var s4l = begin(first_row + 4u, first_column);
    var s4h = begin(first_row + 4u, first_column + 4u);
    var s5l = begin(first_row + 5u, first_column);
    var s5h = begin(first_row + 5u, first_column + 4u);
    var s6l = begin(first_row + 6u, first_column);
    var s6h = begin(first_row + 6u, first_column + 4u);
    var s7l = begin(first_row + 7u, first_column);
    var s7h = begin(first_row + 7u, first_column + 4u);
    var at_a = params.a_first;
    var at_b = params.b_first;
    for (var i = 0u; i < params.k; i++) {
        let low = vec4f(vec4(b[b0 + at_b], b[b1 + at_b], b[b2 + at_b], b[b3 + at_b]));
        let high = vec4f(vec4(b[b4 + at_b], b[b5 + at_b], b[b6 + at_b], b[b7 + at_b]));
        let x0 = a[a0 + at_a];
        s0l += x0 * low;
        s0h += x0 * high;
        let x1 = a[a1 + at_a];
        s1l += x1 * low;
        s1h += x1 * high;
        let x2 = a[a2 + at_a];
        s2l += x2 * low;
        s2h += x2 * high;
        let x3 = a[a3 + at_a];
        s3l += x3 * low;
        s3h += x3 * high;
        let x4 = a[a4 + at_a];
        s4l += x4 * low;
        s4h += x4 * high;
        let x5 = a[a5 + at_a];
        s5l += x5 * low;
        s5h += x5 * high;
        let x6 = a[a6 + at_a];
        s6l += x6 * low;
        s6h += x6 * high;
        let x7 = a[a7 + at_a];
        s7l += x7 * low;
        s7h += x7 * high;
        at_a += a_step;
        at_b += b_step;
    }
    store_four(first_row + 0u, first_column, s0l);
    store_four(first_row + 0u, first_column + 4u, s0h);
    store_four(first_row + 1u, first_column, s1l);
    store_four(first_row + 1u, first_column + 4u, s1h);
    store_four(first_row + 2u, first_column, s2l);
    store_four(first_row + 2u, first_column + 4u, s2h);
    store_four(first_row + 3u, first_column, s3l);
    store_four(first_row + 3u, first_column + 4u, s3h);
    store_four(first_row + 4u, first_column, s4l);
    store_four(first_row + 4u, first_column + 4u, s4h);
    store_four(first_row + 5u, first_column, s5l);
    store_four(first_row + 5u, first_column + 4u, s5h);
    store_four(first_row + 6u, first_column, s6l);
    store_four(first_row + 6u, first_column + 4u, s6h);
    store_four(first_row + 7u, first_column, s7l);
    store_four(first_row + 7u, first_column + 4u, s7h);
}
