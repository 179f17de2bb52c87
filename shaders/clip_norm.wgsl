// The factor that clips gradients by their global norm: norm = sqrt(sum of squares), told = {limit / norm, norm} where the norm
// is above the limit, {1, norm} below; {-1, norm} where the norm is no finite number: then nothing may be updated.
// One workgroup. Bound by its launch.

struct Params {
    len: u32,
    limit: f32, // the largest number where there is none
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> squares: array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> told: array<f32>; // [2]

@compute @workgroup_size(LANES)
fn clip(@builtin(local_invocation_index) lane: u32) {
    var total = 0.0;
    for (var i = lane; i < params.len; i += LANES) {
        total += squares[i];
    }
    total = workgroup_sum(total, lane);
    if lane != 0u {
        return;
    }
    let norm = sqrt(total);
    // By its bits: a compiler may take it that there is no NaN.
    let finite = (bitcast<u32>(total) & 0x7f800000u) != 0x7f800000u;
    told[0] = select(-1.0, select(1.0, params.limit / norm, norm > params.limit), finite);
    told[1] = norm;
}
