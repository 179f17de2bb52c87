// Sums over a whole tensor, block of BLOCK elements by block; passes over the sums of blocks follow until one is left. The
// order depends on the length alone.
//   x, weights [len]; sums [blocks], those from `block` on.
// sum: x; dot: weights * x; squares: x^2, each times `factor`. One workgroup a block.
//   spread: dx = factor * grad; dx [len], grad [1]. spread_weights: dx = grad * weights. One invocation an element.
// Bound by memory.

struct Params {
    len: u32,
    block: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [blocks]

@compute @workgroup_size(LANES)
fn sum(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.y * groups.x + group.x;
    if block * BLOCK >= max(params.len, 1u) {
        return;
    }
    let end = min((block + 1u) * BLOCK, params.len);
    var total = 0.0;
    for (var i = block * BLOCK + lane; i < end; i += LANES) {
        total += x[i];
    }
    total = workgroup_sum(total, lane);
    if lane == 0u {
        sums[params.block + block] = params.factor * total;
    }
}

@compute @workgroup_size(LANES)
fn squares(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.y * groups.x + group.x;
    if block * BLOCK >= max(params.len, 1u) {
        return;
    }
    let end = min((block + 1u) * BLOCK, params.len);
    var total = 0.0;
    for (var i = block * BLOCK + lane; i < end; i += LANES) {
        total += x[i] * x[i];
    }
    total = workgroup_sum(total, lane);
    if lane == 0u {
        sums[params.block + block] = params.factor * total;
    }
}

@group(0) @binding(2) var<storage, read> weights: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> products: array<f32>; // [blocks]

@compute @workgroup_size(LANES)
fn dot(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.y * groups.x + group.x;
    if block * BLOCK >= max(params.len, 1u) {
        return;
    }
    let end = min((block + 1u) * BLOCK, params.len);
    var total = 0.0;
    for (var i = block * BLOCK + lane; i < end; i += LANES) {
        total += weights[i] * x[i];
    }
    total = workgroup_sum(total, lane);
    if lane == 0u {
        products[params.block + block] = params.factor * total;
    }
}

@group(0) @binding(1) var<storage, read> grad: array<f32>; // [1]
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn spread(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    dx[i] = params.factor * grad[0];
}

@group(0) @binding(3) var<storage, read_write> dweighted: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn spread_weights(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    dweighted[i] = grad[0] * weights[i];
}
