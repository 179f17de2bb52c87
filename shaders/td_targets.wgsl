// Targets of temporal differences: target = reward + discount * values[source], the reward alone where the source is no place
// among the values. One invocation an element.
// Bound by memory.

struct Params {
    len: u32,
    first: u32,
    count: u32,
    discount: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> values: array<f32>; // [count]
@group(0) @binding(2) var<storage, read> rewards: array<f32>; // [len]
@group(0) @binding(3) var<storage, read> sources: array<u32>; // [len]
@group(0) @binding(4) var<storage, read_write> targets: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn target_of(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    let source = sources[i];
    var sum = rewards[i];
    if source < params.count {
        sum += params.discount * values[source];
    }
    targets[i] = sum;
}
