// Rows of length 1: y = x / max(|x|, eps), and its gradient.
//   x, y, dy, dx [rows, d]; inverse [rows], the reciprocal divisors; most = 1 / eps.
// One workgroup a row. Bound by memory: one read of x (and dy), one write.

struct Params {
    rows: u32,
    d: u32,
    eps: f32,
    most: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, d]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, d]
@group(0) @binding(3) var<storage, read_write> inverse: array<f32>; // [rows]

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows {
        return;
    }
    let first = row * params.d;
    var squares = 0.0;
    for (var i = lane; i < params.d; i += LANES) {
        squares += x[first + i] * x[first + i];
    }
    let length = sqrt(workgroup_sum(squares, lane));
    var scale = params.most;
    if length >= params.eps {
        scale = 1.0 / length;
    }
    if lane == 0u {
        inverse[row] = scale;
    }
    for (var i = lane; i < params.d; i += LANES) {
        y[first + i] = x[first + i] * scale;
    }
}

@group(0) @binding(1) var<storage, read> normed: array<f32>; // y of forward, [rows, d]
@group(0) @binding(2) var<storage, read> kept: array<f32>; // inverse of forward, [rows]
@group(0) @binding(3) var<storage, read> dy: array<f32>; // [rows, d]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [rows, d]

@compute @workgroup_size(LANES)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows {
        return;
    }
    let first = row * params.d;
    var products = 0.0;
    for (var i = lane; i < params.d; i += LANES) {
        products += normed[first + i] * dy[first + i];
    }
    let scale = kept[row];
    // A row shorter than eps was divided by a constant.
    let along = select(workgroup_sum(products, lane), 0.0, scale >= params.most);
    for (var i = lane; i < params.d; i += LANES) {
        dx[first + i] = scale * (dy[first + i] - normed[first + i] * along);
    }
}
