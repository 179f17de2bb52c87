// Products as in matmul.wgsl, bit for bit as its kernel `direct`, for software adapters whose subgroups have 8 invocations.
//
// A workgroup is one subgroup and makes 16 × 32 elements of c: each invocation four columns, in registers. Loads are what costs
// on such adapters, each a loop over the invocations, so four of k are taken at a time: an invocation loads its part of 16 rows
// of a, which all get from its registers, and its own columns of b: 64 multiply-adds of four for six loads.
//
// wide: where rows as stored, of all that is read and written, begin at multiples of four elements and have a multiple of four,
//   and k is one. Vectors of four are read and written.
// wide_factors: where that holds of a, b and k alone.
// narrow: everything else but a k of 0, element by element.
// Measured on llvmpipe of 2 cores: 54 GFLOP/s at 512³, three times `direct`; narrow, 28.

@group(0) @binding(1) var<storage, read> a: array<f32>; // [m, k] or [k, m]
@group(0) @binding(2) var<storage, read> b: array<StoredB>; // [k, n] or [n, k]

// The same in vectors of four.
@group(0) @binding(1) var<storage, read> a_wide: array<vec4f>;
@group(0) @binding(2) var<storage, read> b_wide: array<vec4<StoredB>>;
@group(0) @binding(3) var<storage, read> bias_wide: array<vec4f>;
@group(0) @binding(4) var<storage, read> residual_wide: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> c_wide: array<vec4f>;

/// Rows and columns of c that a workgroup makes.
const ROWS: u32 = 16u;
const COLUMNS: u32 = 32u;

/// The invocation's four columns of each row.
var<private> sums: array<vec4f, ROWS>;

/// Adds what four of k give to a row: `x` is a's row, `y[i]` the columns of b's row i.
fn add(row: u32, x: vec4f, y: mat4x4f) {
    sums[row] += x.x * y[0];
    sums[row] += x.y * y[1];
    sums[row] += x.z * y[2];
    sums[row] += x.w * y[3];
}

/// The same for four rows: `x[i]` is of the four rows at k's place i.
fn add_four(row: u32, x: mat4x4f, y: mat4x4f) {
    let rows = transpose(x);
    add(row, rows[0], y);
    add(row + 1u, rows[1], y);
    add(row + 2u, rows[2], y);
    add(row + 3u, rows[3], y);
}

/// Adds what four of k give to all rows. If a is not transposed, `low` is of row `lane` and `high` of row 8 + lane, each at
/// four places of k; if it is, of rows 4 (lane % 4) and on at the places lane / 4 and 2 + lane / 4.
fn multiply(low: vec4f, high: vec4f, y: mat4x4f) {
    if TRANSPOSE_A == 1u {
        add_four(0u, mat4x4f(subgroupBroadcast(low, 0u), subgroupBroadcast(low, 4u),
            subgroupBroadcast(high, 0u), subgroupBroadcast(high, 4u)), y);
        add_four(4u, mat4x4f(subgroupBroadcast(low, 1u), subgroupBroadcast(low, 5u),
            subgroupBroadcast(high, 1u), subgroupBroadcast(high, 5u)), y);
        add_four(8u, mat4x4f(subgroupBroadcast(low, 2u), subgroupBroadcast(low, 6u),
            subgroupBroadcast(high, 2u), subgroupBroadcast(high, 6u)), y);
        add_four(12u, mat4x4f(subgroupBroadcast(low, 3u), subgroupBroadcast(low, 7u),
            subgroupBroadcast(high, 3u), subgroupBroadcast(high, 7u)), y);
    } else {
        add(0u, subgroupBroadcast(low, 0u), y);
        add(1u, subgroupBroadcast(low, 1u), y);
        add(2u, subgroupBroadcast(low, 2u), y);
        add(3u, subgroupBroadcast(low, 3u), y);
        add(4u, subgroupBroadcast(low, 4u), y);
        add(5u, subgroupBroadcast(low, 5u), y);
        add(6u, subgroupBroadcast(low, 6u), y);
        add(7u, subgroupBroadcast(low, 7u), y);
        add(8u, subgroupBroadcast(high, 0u), y);
        add(9u, subgroupBroadcast(high, 1u), y);
        add(10u, subgroupBroadcast(high, 2u), y);
        add(11u, subgroupBroadcast(high, 3u), y);
        add(12u, subgroupBroadcast(high, 4u), y);
        add(13u, subgroupBroadcast(high, 5u), y);
        add(14u, subgroupBroadcast(high, 6u), y);
        add(15u, subgroupBroadcast(high, 7u), y);
    }
}

fn begin_rows(first_row: u32, column: u32) {
    for (var i = 0u; i < ROWS; i++) {
        sums[i] = begin(first_row + i, column);
    }
}

fn begin_rows_wide(first_row: u32, column: u32) {
    for (var i = 0u; i < ROWS; i++) {
        sums[i] = vec4f();
        if ACCUMULATE == 1u && first_row + i < params.m && column < params.n {
            sums[i] = c_wide[(params.c_first + (first_row + i) * params.c_stride + column) / 4u];
        }
    }
}

fn store_rows(first_row: u32, column: u32) {
    for (var i = 0u; i < ROWS; i++) {
        store_four(first_row + i, column, sums[i]);
    }
}

fn store_rows_wide(first_row: u32, column: u32) {
    for (var i = 0u; i < ROWS; i++) {
        if first_row + i < params.m && column < params.n {
            let at = (first_row + i) * params.c_stride + column;
            var sum = sums[i];
            if BIAS == 1u {
                sum += bias_wide[(params.bias_first + column) / 4u];
            }
            if RESIDUAL == 1u {
                sum += residual_wide[(params.residual_first + at) / 4u];
            }
            if GATE == 1u {
                let gate = residual_wide[(params.residual_first + at) / 4u];
                sum = gate * vec4f(sigmoid(gate.x), sigmoid(gate.y), sigmoid(gate.z), sigmoid(gate.w)) * sum;
            }
            c_wide[(params.c_first + at) / 4u] = sum;
        }
    }
}

/// Where an invocation's loads are, in vectors of four, and what lies from one to the next.
struct Places {
    low: u32,
    high: u32,
    step: u32,
    b: vec4u,
    b_step: u32,
}

/// Rows and columns past the end repeat the last ones and are not stored.
fn places(first_row: u32, column: u32, lane: u32) -> Places {
    var at: Places;
    let a_stride = params.a_stride / 4u;
    if TRANSPOSE_A == 1u {
        let row = min(first_row + lane % 4u * 4u, params.m - 4u);
        at.low = (params.a_first + row) / 4u + lane / 4u * a_stride;
        at.high = at.low + 2u * a_stride;
        at.step = 4u * a_stride;
    } else {
        at.low = params.a_first / 4u + min(first_row + lane, params.m - 1u) * a_stride;
        at.high = params.a_first / 4u + min(first_row + lane + 8u, params.m - 1u) * a_stride;
        at.step = 1u;
    }
    let b_stride = params.b_stride / 4u;
    let four = vec4u(0u, 1u, 2u, 3u);
    if TRANSPOSE_B == 1u {
        at.b = params.b_first / 4u + min(column + four, vec4u(params.n - 1u)) * b_stride;
        at.b_step = 1u;
    } else {
        at.b = (params.b_first + min(column, params.n - 4u)) / 4u + four * b_stride;
        at.b_step = 4u * b_stride;
    }
    return at;
}

/// Adds the whole product to the sums.
fn multiply_wide(first_row: u32, column: u32, lane: u32) {
    var at = places(first_row, column, lane);
    var left = params.k / 4u;
    // Such adapters run a body once more than a test at the head asks for.
    loop {
        let y = mat4x4f(vec4f(b_wide[at.b.x]), vec4f(b_wide[at.b.y]), vec4f(b_wide[at.b.z]), vec4f(b_wide[at.b.w]));
        let low = a_wide[at.low];
        let high = a_wide[at.high];
        if TRANSPOSE_B == 1u {
            multiply(low, high, transpose(y));
        } else {
            multiply(low, high, y);
        }
        at.low += at.step;
        at.high += at.step;
        at.b += at.b_step;
        continuing {
            left--;
            break if left == 0u;
        }
    }
}

@compute @workgroup_size(8)
fn wide(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * ROWS;
    let column = group.x * COLUMNS + lane * 4u;
    begin_rows_wide(first_row, column);
    multiply_wide(first_row, column, lane);
    store_rows_wide(first_row, column);
}

@compute @workgroup_size(8)
fn wide_factors(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * ROWS;
    let column = group.x * COLUMNS + lane * 4u;
    begin_rows(first_row, column);
    multiply_wide(first_row, column, lane);
    store_rows(first_row, column);
}

/// An element of op(a); 0 past the last of k.
fn a_at(row: u32, place: u32) -> f32 {
    let r = min(row, params.m - 1u);
    let p = min(place, params.k - 1u);
    let value = a[params.a_first + select(r * params.a_stride + p, p * params.a_stride + r, TRANSPOSE_A == 1u)];
    return select(0.0, value, place < params.k);
}

/// Elements of op(b) in four columns; 0 past the last of k.
fn b_at(column: u32, place: u32) -> vec4f {
    let c = min(column + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u));
    let p = min(place, params.k - 1u);
    let at = params.b_first + select(p * params.b_stride + c, c * params.b_stride + p, vec4<bool>(TRANSPOSE_B == 1u));
    let value = vec4f(vec4(b[at.x], b[at.y], b[at.z], b[at.w]));
    return select(vec4f(), value, vec4<bool>(place < params.k));
}

@compute @workgroup_size(8)
fn narrow(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * ROWS;
    let column = group.x * COLUMNS + lane * 4u;
    begin_rows(first_row, column);
    var place = 0u;
    loop {
        var low: vec4f;
        var high: vec4f;
        if TRANSPOSE_A == 1u {
            let row = first_row + lane % 4u * 4u;
            let p = place + lane / 4u;
            low = vec4f(a_at(row, p), a_at(row + 1u, p), a_at(row + 2u, p), a_at(row + 3u, p));
            high = vec4f(a_at(row, p + 2u), a_at(row + 1u, p + 2u), a_at(row + 2u, p + 2u), a_at(row + 3u, p + 2u));
        } else {
            let row = first_row + lane;
            low = vec4f(a_at(row, place), a_at(row, place + 1u), a_at(row, place + 2u), a_at(row, place + 3u));
            high = vec4f(a_at(row + 8u, place), a_at(row + 8u, place + 1u), a_at(row + 8u, place + 2u),
                a_at(row + 8u, place + 3u));
        }
        multiply(low, high, mat4x4f(b_at(column, place), b_at(column, place + 1u), b_at(column, place + 2u),
            b_at(column, place + 3u)));
        continuing {
            place += 4u;
            break if place >= params.k;
        }
    }
    store_rows(first_row, column);
}
