// What the kernels of products share. What is done beside the product is known when a kernel is compiled: ACCUMULATE is 1 where
// the sums go on from what c holds, BIAS and RESIDUAL where these are added, GATE where the product is one half of a SwiGLU whose other
// half stands in the residual's place.

struct Params {
    m: u32,
    n: u32,
    k: u32,
    /// Elements from one row to the next, as stored; the residual's is c's.
    a_stride: u32,
    b_stride: u32,
    c_stride: u32,
    /// Place of the first element in the binding.
    a_first: u32,
    b_first: u32,
    c_first: u32,
    bias_first: u32,
    residual_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [n] where BIAS is 1
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [m, n] where RESIDUAL or GATE is 1
@group(0) @binding(5) var<storage, read_write> c: array<f32>; // [m, n]

fn store(row: u32, column: u32, value: f32) {
    let at = row * params.c_stride + column;
    var sum = value;
    if BIAS == 1u {
        sum += bias[params.bias_first + column];
    }
    if RESIDUAL == 1u {
        sum += residual[params.residual_first + at];
    }
    if GATE == 1u {
        let gate = residual[params.residual_first + at];
        sum = gate * sigmoid(gate) * sum;
    }
    c[params.c_first + at] = sum;
}

/// What the sums of four elements begin with.
fn begin(row: u32, column: u32) -> vec4f {
    var sums = vec4f();
    if ACCUMULATE == 1u && row < params.m {
        for (var i = 0u; i < 4u; i++) {
            if column + i < params.n {
                sums[i] = c[params.c_first + row * params.c_stride + column + i];
            }
        }
    }
    return sums;
}

/// Stores sums of four elements of c, without those past its end.
fn store_four(row: u32, column: u32, sums: vec4f) {
    if row >= params.m {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        if column + i < params.n {
            store(row, column + i, sums[i]);
        }
    }
}
