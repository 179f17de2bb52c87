// SwiGLU: y = gate * sigma(gate) * up, and its gradients; all [len]. One invocation an element.
// Bound by memory: two reads and one write; backward three and two.

struct Params {
    len: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> gate: array<f32>; // [len]
@group(0) @binding(2) var<storage, read> up: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [len]

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
    y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

@group(0) @binding(3) var<storage, read> dy: array<f32>; // [len]
@group(0) @binding(4) var<storage, read_write> dgate: array<f32>; // [len]
@group(0) @binding(5) var<storage, read_write> dup: array<f32>; // [len]

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
    let g = gate[i];
    let s = sigmoid(g);
    dup[i] = dy[i] * g * s;
    dgate[i] = dy[i] * up[i] * s * (1.0 + g * (1.0 - s));
}
