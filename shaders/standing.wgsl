// How the target of every row stands among the scores of all columns: (columns that score higher, others that score the same).
// A target whose score is NaN stands below all others, a NaN above none.
// One workgroup a row. Bound by memory: one read of the scores.

struct Params {
    rows: u32, // of this launch
    first: u32, // the number of the first of them among all
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> scores: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> targets: array<u32>; // of all rows
@group(0) @binding(3) var<storage, read_write> standings: array<vec2u>; // of all rows

var<workgroup> counts: array<vec2u, LANES>;

@compute @workgroup_size(LANES)
fn count(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows {
        return;
    }
    let start = row * params.columns;
    let own_column = targets[params.first + row];
    let own = scores[start + own_column];
    var found = vec2u(0u);
    for (var i = lane; i < params.columns; i += LANES) {
        let score = scores[start + i];
        if score > own {
            found.x += 1u;
        }
        if score == own && i != own_column {
            found.y += 1u;
        }
    }
    counts[lane] = found;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            counts[lane] += counts[lane + half];
        }
        workgroupBarrier();
    }
    if lane > 0u {
        return;
    }
    // By its bits: a compiler may take it that there is no NaN.
    let is_nan = (bitcast<u32>(own) & 0x7fffffffu) > 0x7f800000u;
    standings[params.first + row] = select(counts[0], vec2u(params.columns - 1u, 0u), is_nan);
}
