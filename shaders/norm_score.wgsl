// Root-mean-square norm and dot product with one vector, fused: score = x . head / sqrt(mean(x^2) + eps), and gradients.
//   x, dx [rows, d]; head [d], the norm's weight times the score head; dhead [blocks, d], by blocks of rows; scores, dscores,
//   inverse [rows], inverse the reciprocal roots.
// forward, backward_input: one workgroup a row. backward_head: common/columns.wgsl.
// Bound by memory: one read of x, backward_input one write.

struct Params {
    rows: u32,
    d: u32,
    eps: f32,
    block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, d]
@group(0) @binding(2) var<storage, read> head: array<f32>; // [d]
@group(0) @binding(3) var<storage, read_write> scores: array<f32>; // [rows]
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
    var products = 0.0;
    for (var i = lane; i < params.d; i += LANES) {
        let value = x[first + i];
        squares += value * value;
        products += value * head[i];
    }
    let mean = workgroup_sum(squares, lane) / f32(params.d);
    let product = workgroup_sum(products, lane);
    if lane == 0u {
        let scale = 1.0 / sqrt(mean + params.eps);
        inverse[row] = scale;
        scores[row] = product * scale;
    }
}

@group(0) @binding(3) var<storage, read> kept_scores: array<f32>; // scores of forward, [rows]
@group(0) @binding(4) var<storage, read> kept_inverse: array<f32>; // inverse of forward, [rows]
@group(0) @binding(5) var<storage, read> dscores: array<f32>; // [rows]
@group(0) @binding(6) var<storage, read_write> dx: array<f32>; // [rows, d]

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
    let scale = dscores[row] * kept_inverse[row];
    let radial = kept_scores[row] * kept_inverse[row] / f32(params.d);
    for (var i = lane; i < params.d; i += LANES) {
        dx[first + i] = scale * (head[i] - x[first + i] * radial);
    }
}

@group(0) @binding(2) var<storage, read> roots: array<f32>; // inverse of forward, [rows]
@group(0) @binding(3) var<storage, read> dout: array<f32>; // dscores, [rows]
@group(0) @binding(4) var<storage, read_write> dhead: array<f32>; // [blocks, d]

@compute @workgroup_size(COLUMNS * ROW_LANES)
fn backward_head(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = column_block(group.y * groups.x + group.x, lane, params.rows, params.d);
    var sum = 0.0;
    if at.column < params.d {
        for (var row = at.row; row < at.end; row += ROW_LANES) {
            sum += dout[row] * roots[row] * x[row * params.d + at.column];
        }
    }
    sum = column_sum(sum, lane);
    if lane < COLUMNS && at.column < params.d && at.block * ROW_BLOCK < max(params.rows, 1u) {
        dhead[(params.block + at.block) * params.d + at.column] = sum;
    }
}
