// What the kernels of forest attention share: their parameters, and where a tile's keys stand.

struct Params {
    first: u32, // first job of the launch
    count: u32, // jobs of the launch
    heads: u32,
    group: u32, // query heads a key head
    scale: f32,
    at: u32, // where in the index the jobs begin
    more: u32, // where the rows' keys (tiles), the rows of parts (shared keys), the rows of keys (own keys) begin
    ranges: u32, // where the rows' ranges begin
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<vec4u>; // see device/webgpu/forest_attention/index.rs
@group(0) @binding(2) var<storage, read> queries: array<vec4f>; // [rows, heads, VECS]
@group(0) @binding(3) var<storage, read> keys: array<vec4f>; // [keys, kv_heads, VECS]
@group(0) @binding(4) var<storage, read> values: array<vec4f>; // [keys, kv_heads, VECS]

/// Below every score.
const LOWEST = -1e30;

fn total_of(x: vec4f) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}
