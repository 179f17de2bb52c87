// Sums of tensors of one shape, all [len]. One invocation an element.
//   assign: a += b. forward: y = augend + addend.
// Bound by memory: two reads, one write.

struct Params {
    len: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> b: array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> a: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn assign(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    a[i] += b[i];
}

@group(0) @binding(1) var<storage, read> augend: array<f32>; // [len]
@group(0) @binding(2) var<storage, read> addend: array<f32>; // [len]
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
    y[i] = augend[i] + addend[i];
}
