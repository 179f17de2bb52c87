// Pairwise loss -log sigma(p - q - margin), and its gradients.
//   positive, dpositive [n]; negative, losses, grad, dnegative [n, k].
// forward, backward: one invocation a pair. Sums over the pairs of a positive: short_sums one invocation a positive, for k
// below LANES; long_sums one workgroup. Bound by a logarithm a pair; the sums by memory.

struct Params {
    len: u32,
    first: u32,
    k: u32,
    margin: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> positive: array<f32>; // [n]
@group(0) @binding(2) var<storage, read> negative: array<f32>; // [n, k]
@group(0) @binding(3) var<storage, read_write> losses: array<f32>; // [n, k]

/// Lead of pair i over the margin.
fn lead(i: u32) -> f32 {
    return positive[params.first + i / params.k] - negative[i] - params.margin;
}

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    losses[i] = -log_sigmoid(lead(i));
}

@group(0) @binding(3) var<storage, read> grad: array<f32>; // [n, k]
@group(0) @binding(4) var<storage, read_write> dnegative: array<f32>; // [n, k]

@compute @workgroup_size(LANES)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    dnegative[i] = grad[i] * sigmoid(-lead(i));
}

@group(0) @binding(1) var<storage, read> terms: array<f32>; // dnegative of backward, [n, k]
@group(0) @binding(2) var<storage, read_write> dpositive: array<f32>; // [n]

@compute @workgroup_size(LANES)
fn short_sums(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    var sum = 0.0;
    for (var j = i * params.k; j < (i + 1u) * params.k; j++) {
        sum += terms[j];
    }
    dpositive[i] = -sum;
}

@compute @workgroup_size(LANES)
fn long_sums(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.len {
        return;
    }
    var sum = 0.0;
    for (var j = lane; j < params.k; j += LANES) {
        sum += terms[row * params.k + j];
    }
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        dpositive[row] = -sum;
    }
}
