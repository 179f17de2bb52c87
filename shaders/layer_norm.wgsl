// Layer norm of rows: y = (x - mean) / sqrt(variance + eps) * weight + bias, and its gradients.
//   x, y, dy, dx [rows, d]; weight, bias [d]; moments [rows, 2], mean and reciprocal root; sums [blocks, 2, d], the
//   gradients of weight and bias, block of rows by block.
// forward, backward_input: one workgroup a row. backward_parameters: common/columns.wgsl.
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
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [d]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, d]
@group(0) @binding(5) var<storage, read_write> moments: array<f32>; // [rows, 2]

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
    var total = 0.0;
    for (var i = lane; i < params.d; i += LANES) {
        total += x[first + i];
    }
    let mean = workgroup_sum(total, lane) / f32(params.d);
    var squares = 0.0;
    for (var i = lane; i < params.d; i += LANES) {
        let centred = x[first + i] - mean;
        squares += centred * centred;
    }
    let variance = workgroup_sum(squares, lane) / f32(params.d);
    let scale = 1.0 / sqrt(variance + params.eps);
    if lane == 0u {
        moments[2u * row] = mean;
        moments[2u * row + 1u] = scale;
    }
    for (var i = lane; i < params.d; i += LANES) {
        y[first + i] = (x[first + i] - mean) * scale * weight[i] + bias[i];
    }
}

@group(0) @binding(3) var<storage, read> kept: array<f32>; // moments of forward, [rows, 2]
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
    let mean = kept[2u * row];
    let scale = kept[2u * row + 1u];
    var plain = 0.0;
    var along = 0.0;
    for (var i = lane; i < params.d; i += LANES) {
        let g = dy[first + i] * weight[i];
        plain += g;
        along += g * ((x[first + i] - mean) * scale);
    }
    let mean_g = workgroup_sum(plain, lane) / f32(params.d);
    let mean_gx = workgroup_sum(along, lane) / f32(params.d);
    for (var i = lane; i < params.d; i += LANES) {
        let normed = (x[first + i] - mean) * scale;
        dx[first + i] = scale * (dy[first + i] * weight[i] - mean_g - normed * mean_gx);
    }
}

@group(0) @binding(2) var<storage, read> centres: array<f32>; // moments of forward, [rows, 2]
@group(0) @binding(3) var<storage, read> dout: array<f32>; // [rows, d]
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // [blocks, 2, d]

@compute @workgroup_size(COLUMNS * ROW_LANES)
fn backward_parameters(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = column_block(group.y * groups.x + group.x, lane, params.rows, params.d);
    var dweight = 0.0;
    var dbias = 0.0;
    if at.column < params.d {
        for (var row = at.row; row < at.end; row += ROW_LANES) {
            let i = row * params.d + at.column;
            dweight += dout[i] * ((x[i] - centres[2u * row]) * centres[2u * row + 1u]);
            dbias += dout[i];
        }
    }
    dweight = column_sum(dweight, lane);
    dbias = column_sum(dbias, lane);
    if lane < COLUMNS && at.column < params.d && at.block * ROW_BLOCK < max(params.rows, 1u) {
        let first = (params.block + at.block) * 2u * params.d;
        sums[first + at.column] = dweight;
        sums[first + params.d + at.column] = dbias;
    }
}
