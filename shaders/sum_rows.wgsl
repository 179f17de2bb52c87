// y = sum over the rows of x, block of rows by block: common/columns.wgsl gives the order.
//   x [rows, d]; y [blocks, d], the sums of the blocks from `block` on.
// Bound by memory: one read of x.

struct Params {
    rows: u32,
    d: u32,
    block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, d]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [blocks, d]

@compute @workgroup_size(COLUMNS * ROW_LANES)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = column_block(group.y * groups.x + group.x, lane, params.rows, params.d);
    var sum = 0.0;
    if at.column < params.d {
        for (var row = at.row; row < at.end; row += ROW_LANES) {
            sum += x[row * params.d + at.column];
        }
    }
    sum = column_sum(sum, lane);
    if lane < COLUMNS && at.column < params.d && at.block * ROW_BLOCK < max(params.rows, 1u) {
        y[(params.block + at.block) * params.d + at.column] = sum;
    }
}
