// Softmax cross-entropy of rows against one target each, loss = log sum exp(scale x) - scale x[target], over the columns
// that a mask leaves, and its gradient; no probabilities are stored.
//   x, dx, mask [rows, columns]; targets, losses, log_sums, grad [rows]. MASKED is 1 where there is a mask.
// One workgroup a row. Bound by memory: two reads of x (the second from cache where a row fits it), one write.

struct Params {
    rows: u32,
    columns: u32,
    scale: f32,
    // The loss of a row whose target is no column that counts.
    nan: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> targets: array<u32>; // [rows]
@group(0) @binding(3) var<storage, read> mask: array<u32>; // [rows, columns], or anything
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; // [rows]
@group(0) @binding(5) var<storage, read_write> log_sums: array<f32>; // [rows]

fn counts(place: u32) -> bool {
    return MASKED == 0u || mask[place] != 0u;
}

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
    let first = row * params.columns;
    var highest = -3.4028234e38;
    for (var i = lane; i < params.columns; i += LANES) {
        if counts(first + i) {
            highest = max(highest, x[first + i]);
        }
    }
    let top = workgroup_max(highest, lane) * params.scale;
    var partial = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        if counts(first + i) {
            partial += exp(fma(x[first + i], params.scale, -top));
        }
    }
    let sum = workgroup_sum(partial, lane);
    if lane > 0u {
        return;
    }
    let log_sum = top + log(sum);
    let target_column = targets[row];
    var loss = params.nan;
    if target_column < params.columns && counts(first + target_column) {
        loss = log_sum - x[first + target_column] * params.scale;
    }
    losses[row] = loss;
    log_sums[row] = log_sum;
}

@group(0) @binding(4) var<storage, read> kept: array<f32>; // log sums of forward, [rows]
@group(0) @binding(5) var<storage, read> grad: array<f32>; // [rows]
@group(0) @binding(6) var<storage, read_write> dx: array<f32>; // [rows, columns]

// dx = grad scale (softmax - [column = target]).
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
    let first = row * params.columns;
    let factor = grad[row] * params.scale;
    let log_sum = kept[row];
    let target_column = targets[row];
    for (var i = lane; i < params.columns; i += LANES) {
        var d = 0.0;
        if counts(first + i) {
            d = exp(fma(x[first + i], params.scale, -log_sum)) * factor;
        }
        if i == target_column {
            d -= factor;
        }
        dx[first + i] = d;
    }
}
