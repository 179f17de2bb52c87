// Rows of a table by id, y = table[id], and the transpose: rows of dy summed up by id.
//   ids [n]; table, dtable [count, d]: rows first .. first + count of all; y, dy [n, d].
//   starts [v + 1], positions [n]: for every row of the table the positions whose id it is, ascending.
// One invocation an element, neighbours beside each other in a row. Bound by memory: the rows once in, once out.
// A table that does not fit a binding comes in parts, one launch each: a part writes only what is its own.

struct Params {
    n: u32,
    d: u32,
    // First row of the part, counted over all tables, and its rows.
    first: u32,
    count: u32,
    // gather: none; rows of all tables; NaN, for ids beyond them. scatter: see below.
    offset: u32,
    total: u32,
    nan: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> ids: array<u32>; // [n]
@group(0) @binding(2) var<storage, read> table: array<f32>; // [count, d]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [n, d]

@compute @workgroup_size(LANES)
fn gather(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * LANES + lane;
    if i >= params.n * params.d {
        return;
    }
    let row = i / params.d;
    let id = ids[row];
    if id >= params.total {
        // Only ids that another kernel made can be beyond: the host has checked its own.
        y[i] = params.nan;
        return;
    }
    let own = id - params.first;
    if id >= params.first && own < params.count {
        y[i] = table[own * params.d + (i - row * params.d)];
    }
}

// Rows of dy come in parts too: this launch has positions offset .. offset + total. Each adds to what those before it
// left, in the order of positions, so that the sum is the same however dy is split.
@group(0) @binding(1) var<storage, read> starts: array<u32>; // [v + 1]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // all positions
@group(0) @binding(3) var<storage, read> dy: array<f32>; // [total, d]
@group(0) @binding(4) var<storage, read_write> dtable: array<f32>; // [count, d]

@compute @workgroup_size(LANES)
fn scatter(
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
    for (var place = first_place(starts[params.first + row], end, params.offset); place < end; place++) {
        let position = positions[place] - params.offset;
        if position >= params.total {
            break;
        }
        sum += dy[position * params.d + column];
    }
    dtable[i] = sum;
}
