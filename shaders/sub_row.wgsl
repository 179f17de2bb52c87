// A row taken from every row: y = x - row; x, y [rows, d], row [d]. One invocation an element.
// Bound by memory: one read, one write.

struct Params {
    len: u32,
    first: u32,
    d: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> row: array<f32>; // [d]
@group(0) @binding(2) var<storage, read> x: array<f32>; // [rows, d]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, d]

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
    y[i] = x[i] - row[i % params.d];
}
