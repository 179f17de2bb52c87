// Dot products with chosen rows of a table: y = x . table[id] + bias[id], and their gradients.
//   x, dx [n, d]; ids, y, dy [n, k]; table, dtable [count, d]: rows first .. first + count of v; bias, dbias [v].
//   starts [v + 1], positions [n k]: for every row of the table the places whose id it is, ascending.
// forward: 8 invocations a product, each every eighth element. The others: one invocation an element of the result.
// Bound by memory: every chosen row is read once a choice.
// Tables and rows of x that do not fit a binding come in parts, one launch each.

// Invocations that share a product.
const SHARE: u32 = 8u;

struct Params {
    n: u32,
    k: u32,
    d: u32,
    first: u32,
    count: u32,
    v: u32,
    // 1 where there is a bias.
    biased: u32,
    // Places before this part of x, and places in it.
    offset: u32,
    places: u32,
    // For ids beyond the table.
    nan: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [n, d]
@group(0) @binding(2) var<storage, read> table: array<f32>; // [count, d]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [v], or anything
@group(0) @binding(4) var<storage, read> ids: array<u32>; // [n, k]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [n, k]

var<workgroup> shares: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = (group.y * groups.x + group.x) * (LANES / SHARE) + lane / SHARE;
    let inside = place < params.n * params.k;
    var id = params.v;
    if inside {
        id = ids[place];
    }
    let own = id - params.first;
    let here = inside && id >= params.first && own < params.count;
    var sum = 0.0;
    if here {
        let row = place / params.k * params.d;
        for (var c = lane % SHARE; c < params.d; c += SHARE) {
            sum = fma(x[row + c], table[own * params.d + c], sum);
        }
    }
    shares[lane] = sum;
    workgroupBarrier();
    if lane % SHARE != 0u {
        return;
    }
    if here {
        for (var i = 1u; i < SHARE; i++) {
            sum += shares[lane + i];
        }
        if params.biased == 1u {
            sum += bias[id];
        }
        y[place] = sum;
    } else if inside && id >= params.v {
        y[place] = params.nan;
    }
}

@group(0) @binding(3) var<storage, read> choices: array<u32>; // ids, [n, k]
@group(0) @binding(4) var<storage, read> dy: array<f32>; // [n, k]
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // [n, d]

// dx of row i: the sum over its choices in their order, part of the table by part.
@compute @workgroup_size(LANES)
fn backward_x(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * LANES + lane;
    if i >= params.n * params.d {
        return;
    }
    let row = i / params.d;
    let column = i - row * params.d;
    var sum = 0.0;
    if params.first > 0u {
        sum = dx[i];
    }
    for (var place = row * params.k; place < (row + 1u) * params.k; place++) {
        let id = choices[place];
        let own = id - params.first;
        if id >= params.first && own < params.count {
            sum = fma(dy[place], table[own * params.d + column], sum);
        }
    }
    dx[i] = sum;
}

@group(0) @binding(1) var<storage, read> starts: array<u32>; // [v + 1]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // all places
@group(0) @binding(3) var<storage, read> rows: array<f32>; // x, [places / k, d]
@group(0) @binding(4) var<storage, read> grad: array<f32>; // dy, [places]
@group(0) @binding(5) var<storage, read_write> dtable: array<f32>; // [count, d]

// Adds the places offset .. offset + places to what earlier parts of x left, in their order.
@compute @workgroup_size(LANES)
fn backward_table(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * LANES + lane;
    if i >= params.count * params.d {
        return;
    }
    let row = i / params.d;
    let column = i - row * params.d;
    var sum = 0.0;
    if params.offset > 0u {
        sum = dtable[i];
    }
    let end = starts[params.first + row + 1u];
    for (var at = first_place(starts[params.first + row], end, params.offset); at < end; at++) {
        let place = positions[at] - params.offset;
        if place >= params.places {
            break;
        }
        sum = fma(grad[place], rows[place / params.k * params.d + column], sum);
    }
    dtable[i] = sum;
}

@group(0) @binding(3) var<storage, read> dlogits: array<f32>; // dy, [places]
@group(0) @binding(4) var<storage, read_write> dbias: array<f32>; // [v]

@compute @workgroup_size(LANES)
fn backward_bias(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.y * groups.x + group.x) * LANES + lane;
    if row >= params.v {
        return;
    }
    var sum = 0.0;
    if params.offset > 0u {
        sum = dbias[row];
    }
    let end = starts[row + 1u];
    for (var at = first_place(starts[row], end, params.offset); at < end; at++) {
        let place = positions[at] - params.offset;
        if place >= params.places {
            break;
        }
        sum += dlogits[place];
    }
    dbias[row] = sum;
}
