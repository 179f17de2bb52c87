// Activation functions and their slopes: y = f(x), dx = f'(x) * dy; all [len]. One invocation an element. FUNCTION says
// which: 0 ReLU, 1 GELU, 2 GELU by tanh, 3 SiLU, 4 sigmoid, 5 tanh. Bound by memory.

struct Params {
    len: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// 2 * sqrt(2 / pi).
const GELU_SCALE = 1.5957691;
const GELU_CUBE = 0.044715;
// 1 / sqrt(2 * pi).
const DENSITY = 0.3989423;

/// (Phi(x), e^(-x^2/2)), Phi the normal distribution function: the lower tail Phi(-|x|) is e^(-x^2/2) * t * Q(t) with
/// t = 1 / (1 + |x|/4), which keeps its relative precision however far out. Q by powers of 2t - 1.
fn normal(x: f32) -> vec2f {
    let t = 1.0 / (1.0 + 0.25 * abs(x));
    let s = t + t - 1.0;
    var q = 3.93301424e-5;
    q = q * s + 3.23314203e-5;
    q = q * s - 3.90946725e-4;
    q = q * s - 8.69041974e-4;
    q = q * s + 1.87805785e-3;
    q = q * s + 1.5098824e-2;
    q = q * s + 4.66316777e-2;
    q = q * s + 9.67843907e-2;
    q = q * s + 1.51974101e-1;
    q = q * s + 1.88821282e-1;
    // Beyond 1000 the exponential is 0 long since; the bound keeps the square finite.
    let exponential = exp(-0.5 * min(x * x, 1000.0));
    let tail = exponential * t * q;
    return vec2f(select(1.0 - tail, tail, x < 0.0), exponential);
}

/// 2u with u = sqrt(2 / pi) * (x + 0.044715 * x^3): (1 + tanh u) / 2 = sigma(2u).
fn twice_gelu_argument(x: f32) -> f32 {
    return GELU_SCALE * x * (1.0 + GELU_CUBE * x * x);
}

fn value(x: f32) -> f32 {
    switch FUNCTION {
        case 0u: {
            // Written so that NaN stays NaN.
            return select(x, 0.0, x < 0.0);
        }
        case 1u: {
            return x * normal(x).x;
        }
        case 2u: {
            return x * sigmoid(twice_gelu_argument(x));
        }
        case 3u: {
            return x * sigmoid(x);
        }
        case 4u: {
            return sigmoid(x);
        }
        default: {
            return tanh_of(x);
        }
    }
}

fn slope(x: f32) -> f32 {
    switch FUNCTION {
        case 0u: {
            return select(0.0, 1.0, x > 0.0);
        }
        case 1u: {
            let phi = normal(x);
            return phi.x + x * phi.y * DENSITY;
        }
        case 2u: {
            let s = sigmoid(twice_gelu_argument(x));
            let inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * x * x);
            return s + x * s * (1.0 - s) * inner;
        }
        case 3u: {
            let s = sigmoid(x);
            return s * (1.0 + x * (1.0 - s));
        }
        case 4u: {
            // 1 - sigma(x) would cancel.
            return sigmoid(x) * sigmoid(-x);
        }
        default: {
            // 1 - tanh^2 would cancel.
            let e = exp(-2.0 * abs(x));
            return 4.0 * e / ((1.0 + e) * (1.0 + e));
        }
    }
}

@group(0) @binding(1) var<storage, read> x: array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    y[i] = value(x[i]);
}

@group(0) @binding(2) var<storage, read> dy: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    dx[i] = slope(x[i]) * dy[i];
}
