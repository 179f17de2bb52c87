// A step of a gated recurrent unit for all sequences that reach it, forward and backward.
//   gates, dgates [rows, 3h] in the order r, z, n; w [3h, h]; bias [3h]; y, dy [rows, h]; rows [visits].
//   In the order of visits: history [visits, h], kept [visits, 4h] (r, z, n, hidden part of n), dhidden [visits, 3h] (gradient
//   of w previous + bias), dn [visits, h]; carry [sequences, h], what of a state's gradient passes by z.
//   Visits of a step lie together, and what goes on at a step is a prefix of those before it.
// forward, backward: one workgroup 16 visits by 16 units; the product with w runs 16 of its depth at a time through workgroup
// memory, in the order of depth for every element, whatever runs beside it. input_gradient: one invocation an element.
// Bound by launches and the latency of one step while few sequences run, else by arithmetic.

const TILE: u32 = 16u;
// Row of a tile in workgroup memory that is read down its columns.
const PITCH: u32 = 17u;

struct Params {
    h: u32,
    // Visits of the step: the first and how many.
    first: u32,
    running: u32,
    // First visit of the step before.
    previous: u32,
    // 1 where there is a step before.
    continued: u32,
    // forward: first row in kept. backward: first visit of the step after, and how many.
    other: u32,
    later: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> w: array<f32>; // [3h, h]
@group(0) @binding(2) var<storage, read> rows: array<u32>; // [visits]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [3h]
@group(0) @binding(4) var<storage, read> gates: array<f32>; // [rows, 3h]
@group(0) @binding(5) var<storage, read_write> history: array<f32>; // [visits, h]
@group(0) @binding(6) var<storage, read_write> kept: array<f32>; // [visits, 4h], or one step's
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [rows, h]

var<workgroup> left: array<f32, 256>; // [visit, depth]
var<workgroup> right: array<f32, 816>; // forward: [3, unit, PITCH]; backward: [depth, unit]

@compute @workgroup_size(16, 16)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let h = params.h;
    let visit = group.y * TILE + local.y;
    let unit = group.x * TILE + local.x;
    let depth_end = h * params.continued;
    let weight_unit = group.x * TILE + local.y;
    var hidden = vec3f();
    for (var start = 0u; start < depth_end; start += TILE) {
        let depth = start + local.x;
        var state = 0.0;
        if visit < params.running && depth < h {
            state = history[(params.previous + visit) * h + depth];
        }
        left[index] = state;
        for (var gate = 0u; gate < 3u; gate++) {
            var weight = 0.0;
            if weight_unit < h && depth < h {
                weight = w[(gate * h + weight_unit) * h + depth];
            }
            right[(gate * TILE + local.y) * PITCH + local.x] = weight;
        }
        workgroupBarrier();
        for (var i = 0u; i < TILE; i++) {
            let weights = vec3f(
                right[local.x * PITCH + i],
                right[(TILE + local.x) * PITCH + i],
                right[(2u * TILE + local.x) * PITCH + i],
            );
            hidden = fma(vec3f(left[local.y * TILE + i]), weights, hidden);
        }
        workgroupBarrier();
    }
    if visit >= params.running || unit >= h {
        return;
    }
    hidden += vec3f(bias[unit], bias[h + unit], bias[2u * h + unit]);
    let row = rows[params.first + visit];
    let x = row * 3u * h + unit;
    let r = sigmoid(gates[x] + hidden.x);
    let z = sigmoid(gates[x + h] + hidden.y);
    let n = tanh_of(fma(r, hidden.z, gates[x + 2u * h]));
    var next = n - z * n;
    if params.continued == 1u {
        next += z * history[(params.previous + visit) * h + unit];
    }
    history[(params.first + visit) * h + unit] = next;
    y[row * h + unit] = next;
    let cell = (params.other + visit) * 4u * h + unit;
    kept[cell] = r;
    kept[cell + h] = z;
    kept[cell + 2u * h] = n;
    kept[cell + 3u * h] = hidden.z;
}

@group(0) @binding(3) var<storage, read> states: array<f32>; // history, [visits, h]
@group(0) @binding(4) var<storage, read> cells: array<f32>; // kept, [visits, 4h]
@group(0) @binding(5) var<storage, read> dy: array<f32>; // [rows, h]
@group(0) @binding(6) var<storage, read_write> dhidden: array<f32>; // [visits, 3h]
@group(0) @binding(7) var<storage, read_write> dn: array<f32>; // [visits, h]
@group(0) @binding(8) var<storage, read_write> carry: array<f32>; // [sequences, h]

@compute @workgroup_size(16, 16)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let h = params.h;
    let visit = group.y * TILE + local.y;
    let unit = group.x * TILE + local.x;
    // Sequences that end here get nothing from a step after.
    let depth_end = select(0u, 3u * h, group.y * TILE < params.later);
    var from_later = 0.0;
    for (var start = 0u; start < depth_end; start += TILE) {
        var gradient = 0.0;
        if visit < params.later && start + local.x < depth_end {
            gradient = dhidden[(params.other + visit) * 3u * h + start + local.x];
        }
        left[index] = gradient;
        var weight = 0.0;
        if unit < h && start + local.y < depth_end {
            weight = w[(start + local.y) * h + unit];
        }
        right[index] = weight;
        workgroupBarrier();
        for (var i = 0u; i < TILE; i++) {
            from_later = fma(left[local.y * TILE + i], right[i * TILE + local.x], from_later);
        }
        workgroupBarrier();
    }
    if visit >= params.running || unit >= h {
        return;
    }
    let row = rows[params.first + visit];
    var dh = dy[row * h + unit];
    if visit < params.later {
        dh += carry[visit * h + unit] + from_later;
    }
    let cell = (params.first + visit) * 4u * h + unit;
    let r = cells[cell];
    let z = cells[cell + h];
    let n = cells[cell + 2u * h];
    let inner = cells[cell + 3u * h];
    var previous = 0.0;
    if params.continued == 1u {
        previous = states[(params.previous + visit) * h + unit];
    }
    let from_n = dh * (1.0 - z) * (1.0 - n * n);
    let at = (params.first + visit) * 3u * h + unit;
    dhidden[at] = from_n * inner * r * (1.0 - r);
    dhidden[at + h] = dh * (previous - n) * z * (1.0 - z);
    dhidden[at + 2u * h] = from_n * r;
    dn[(params.first + visit) * h + unit] = from_n;
    carry[visit * h + unit] = dh * z;
}

@group(0) @binding(1) var<storage, read> visited: array<u32>; // rows, [visits]
@group(0) @binding(2) var<storage, read> of_hidden: array<f32>; // dhidden, [visits, 3h]
@group(0) @binding(3) var<storage, read> of_n: array<f32>; // dn, [visits, h]
@group(0) @binding(4) var<storage, read_write> dgates: array<f32>; // [rows, 3h]

// params.running counts the visits of this launch, the first of which is row 0 of what is read.
@compute @workgroup_size(64)
fn input_gradient(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let width = 3u * params.h;
    if i >= params.running * width {
        return;
    }
    let visit = i / width;
    let column = i - visit * width;
    var value = 0.0;
    if column < 2u * params.h {
        value = of_hidden[i];
    } else {
        value = of_n[visit * params.h + column - 2u * params.h];
    }
    dgates[visited[visit] * width + column] = value;
}
