// Gradient of the mean over rows: every row of dx becomes `row`; dx [rows, d], row [d]. One invocation an element.
// Bound by memory: one write.

struct Params {
    len: u32,
    first: u32,
    d: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> row: array<f32>; // [d]
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // [rows, d]

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
    dx[i] = row[i % params.d];
}
