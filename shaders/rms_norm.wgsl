// Root-mean-square norm of rows: y = x / sqrt(mean(x^2) + eps) * weight, and its gradients.
//   x, y, dy, dx [rows, d]; weight [d]; dweight [blocks, d], by blocks of rows; inverse [rows], the reciprocal roots.
// forward, backward_input: one workgroup a row. backward_weight: common/columns.wgsl.
// Bound by memory: one read of x (and dy), one write.

struct Params {
    rows: u32,
    d: u32,
    eps: f32,
    block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, d]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [d]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, d]
@group(0) @binding(4) var<storage, read_write> inverse: array<f32>; // [rows]

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
    let mean = workgroup_sum(squares, lane) / f32(params.d);
    let scale = 1.0 / sqrt(mean + params.eps);
    if lane == 0u {
        inverse[row] = scale;
    }
    for (var i = lane; i < params.d; i += LANES) {
        y[first + i] = x[first + i] * scale * weight[i];
    }
}

@group(0) @binding(3) var<storage, read> kept: array<f32>; // inverse of forward, [rows]
@group(0) @binding(4) var<storage, read> dy: array<f32>; // [rows, d]
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // [rows, d]

@compute @workgroup_size(LANES)
fn backward_input(
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
        products += dy[first + i] * weight[i] * x[first + i];
    }
    let scale = kept[row];
    let mean = workgroup_sum(products, lane) * scale * scale / f32(params.d);
    for (var i = lane; i < params.d; i += LANES) {
        dx[first + i] = scale * (dy[first + i] * weight[i] - x[first + i] * mean);
    }
}

@group(0) @binding(2) var<storage, read> roots: array<f32>; // inverse of forward, [rows]
@group(0) @binding(3) var<storage, read> dout: array<f32>; // [rows, d]
@group(0) @binding(4) var<storage, read_write> dweight: array<f32>; // [blocks, d]

@compute @workgroup_size(COLUMNS * ROW_LANES)
fn backward_weight(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = column_block(group.y * groups.x + group.x, lane, params.rows, params.d);
    var sum = 0.0;
    if at.column < params.d {
        for (var row = at.row; row < at.end; row += ROW_LANES) {
            sum += dout[row * params.d + at.column] * x[row * params.d + at.column] * roots[row];
        }
    }
    sum = column_sum(sum, lane);
    if lane < COLUMNS && at.column < params.d && at.block * ROW_BLOCK < max(params.rows, 1u) {
        dweight[(params.block + at.block) * params.d + at.column] = sum;
    }
}
