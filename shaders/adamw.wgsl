// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) in place; all [len]. One invocation an element.
// Bound by memory: four reads, three writes.

struct Params {
    len: u32,
    first: u32,
    grad_scale: f32,
    beta1: f32,
    beta1_rest: f32, // 1 - beta1
    beta2: f32,
    beta2_rest: f32, // 1 - beta2
    rate: f32, // over the correction of the first moment
    second_scale: f32, // 1 / the correction of the second
    eps: f32,
    keep: f32, // 1 - lr * weight decay
    scaled: u32, // whether `scale` is one more factor on the gradient, negative for no update at all
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> scale: array<f32>; // [1] at least
@group(0) @binding(2) var<storage, read> grad: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // [len]
@group(0) @binding(4) var<storage, read_write> m: array<f32>; // [len]
@group(0) @binding(5) var<storage, read_write> v: array<f32>; // [len]

@compute @workgroup_size(LANES)
fn step(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = element_of(group, groups, lane);
    if i >= params.len {
        return;
    }
    var factor = params.grad_scale;
    if params.scaled != 0u {
        if scale[0] < 0.0 {
            return;
        }
        factor *= scale[0];
    }
    let g = grad[i] * factor;
    let first = params.beta1 * m[i] + params.beta1_rest * g;
    let second = params.beta2 * v[i] + params.beta2_rest * g * g;
    m[i] = first;
    v[i] = second;
    weights[i] = weights[i] * params.keep - params.rate * first / (sqrt(second * params.second_scale) + params.eps);
}
