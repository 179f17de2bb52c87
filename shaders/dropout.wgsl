// Inverted dropout: y = 0 where the mask drops the element, else scale * x; x, y [len]. The mask is Philox 4x32-10 (Salmon
// et al., SC 2011) by place: in each group of 64 elements, element j takes word j / 16 of block j % 16, bit for bit as on
// the CPU. One invocation an element. Bound by arithmetic: ten rounds of two wide products.

struct Params {
    len: u32,
    group: u32, // first group of 64 elements
    scale: f32,
    threshold: u32,
    seed_low: u32,
    seed_high: u32,
    counter_low: u32,
    counter_high: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [len]

/// High and low word of a product, from products of halves.
fn wide_product(a: u32, b: u32) -> vec2u {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2u((a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u), a * b);
}

fn philox(counter: vec4u, first_key: vec2u) -> vec4u {
    var words = counter;
    var key = first_key;
    for (var round = 0u; round < 10u; round++) {
        let p = wide_product(words.x, 0xd2511f53u);
        let q = wide_product(words.z, 0xcd9e8d57u);
        words = vec4u(q.x ^ words.y ^ key.x, q.y, p.x ^ words.w ^ key.y, p.y);
        key += vec2u(0x9e3779b9u, 0xbb67ae85u);
    }
    return words;
}

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
    let number = params.group + i / 64u;
    // Sixteen blocks a group; the number of the block has more than 32 bits.
    let counter = vec4u((number << 4u) + i % 16u, number >> 28u, params.counter_low, params.counter_high);
    let words = philox(counter, vec2u(params.seed_low, params.seed_high));
    y[i] = select(params.scale * x[i], 0.0, words[i % 64u / 16u] < params.threshold);
}
