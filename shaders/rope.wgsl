// Rotary position embedding: the pair (x_i, x_{i + half}) of every head turns by the row's position times frequency i.
//   x, y [rows, heads * 2 * half]; positions [rows]; cosines, sines [positions, half].
// One invocation a pair. Bound by memory: one read of x, one write of y.

struct Params {
    rows: u32,
    heads: u32,
    half: u32,
    sign: f32, // -1 turns back
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, heads * 2 * half]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // [rows]
@group(0) @binding(3) var<storage, read> cosines: array<f32>; // [positions, half]
@group(0) @binding(4) var<storage, read> sines: array<f32>; // [positions, half]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [rows, heads * 2 * half]

@compute @workgroup_size(LANES)
fn rotate(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = (group.y * groups.x + group.x) * LANES + lane;
    let head = pair / params.half;
    let row = head / params.heads;
    if row >= params.rows {
        return;
    }
    let i = pair % params.half;
    let angle = positions[row] * params.half + i;
    let cosine = cosines[angle];
    let sine = params.sign * sines[angle];
    let at = head * 2u * params.half + i;
    let a = x[at];
    let b = x[at + params.half];
    y[at] = a * cosine - b * sine;
    y[at + params.half] = b * cosine + a * sine;
}
