// Temporal-difference loss: loss = (target - q)^2 / 2, dq = grad * (q - target); all [len]. One invocation an element.
// Bound by memory.

struct Params {
    len: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> q: array<f32>; // [len]
@group(0) @binding(2) var<storage, read> targets: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> losses: array<f32>; // [len]

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
    let difference = targets[i] - q[i];
    losses[i] = 0.5 * difference * difference;
}

@group(0) @binding(3) var<storage, read> grad: array<f32>; // [len]
@group(0) @binding(4) var<storage, read_write> dq: array<f32>; // [len]

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
    dq[i] = grad[i] * (q[i] - targets[i]);
}
