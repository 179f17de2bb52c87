// Takes excluded ids out of the scores of a search: scores[place] = NaN, which selection never finds.
//   scores [rows, v], as bits; places [count], each row * v + id.
// One invocation a place. Bound by memory.

struct Params {
    count: u32,
    nan: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> places: array<u32>; // [count]
@group(0) @binding(2) var<storage, read_write> scores: array<u32>; // [rows, v]

@compute @workgroup_size(LANES)
fn exclude(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * LANES + lane;
    if i < params.count {
        scores[places[i]] = params.nan;
    }
}
