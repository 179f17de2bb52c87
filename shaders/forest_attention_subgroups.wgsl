// Forward of forest attention for software adapters whose subgroups have SUBGROUP = 8 invocations; shapes as in
// forest_attention.wgsl.
//
// A workgroup is one subgroup, an invocation holds four query rows in registers. Loads are what costs on such adapters: each
// invocation loads one of 8 consecutive keys, and all get it from its registers, so that a load serves 32 multiply-adds.
// Loops over VECS are short enough to be unrolled: an index that is known needs no memory. The others test at their end, for
// these adapters run a body once more than a test at the head asks for.
// Measured on llvmpipe of 2 cores: 0.9 of the rate of the product of 512³, about four times that of forest_attention.wgsl.

@group(0) @binding(5) var<storage, read_write> out: array<vec4f>; // [rows, heads, VECS]
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [rows, heads]

/// The four query rows.
var<private> q0: array<vec4f, VECS>;
var<private> q1: array<vec4f, VECS>;
var<private> q2: array<vec4f, VECS>;
var<private> q3: array<vec4f, VECS>;
/// Their weighted sums of values.
var<private> sum0: array<vec4f, VECS>;
var<private> sum1: array<vec4f, VECS>;
var<private> sum2: array<vec4f, VECS>;
var<private> sum3: array<vec4f, VECS>;
/// The key of this invocation, then its value.
var<private> mine: array<vec4f, VECS>;
/// Products of the rows with the key at hand.
var<private> s0: vec4f;
var<private> s1: vec4f;
var<private> s2: vec4f;
var<private> s3: vec4f;

/// Place in k and v of the key at a position of a tile's list.
fn place(position: u32, a: vec4u, b: vec4u, kv_head: u32) -> u32 {
    let in_trunk = position - a.w;
    let later = select(b.z + in_trunk - b.y, b.x + in_trunk, position < a.w + b.y);
    let key = select(later, a.z + position, position < a.w);
    return (key * (params.heads / params.group) + kv_head) * VECS;
}

fn add_key(d: u32, k: vec4f) {
    s0 += q0[d] * k;
    s1 += q1[d] * k;
    s2 += q2[d] * k;
    s3 += q3[d] * k;
}

/// Scaled scores of the key at a position, LOWEST for rows that see fewer; begins the next key.
fn scores(position: u32, seen: vec4u) -> vec4f {
    let s = vec4f(total_of(s0), total_of(s1), total_of(s2), total_of(s3)) * params.scale;
    s0 = vec4f();
    s1 = vec4f();
    s2 = vec4f();
    s3 = vec4f();
    return select(vec4f(LOWEST), s, vec4u(position) < seen);
}

fn weights(s: vec4f, top: vec4f, position: u32, seen: vec4u) -> vec4f {
    return select(vec4f(), exp(s - top), vec4u(position) < seen);
}

fn add_value(d: u32, p: vec4f, v: vec4f) {
    sum0[d] += p.x * v;
    sum1[d] += p.y * v;
    sum2[d] += p.z * v;
    sum3[d] += p.w * v;
}

fn shrink_sums(by: vec4f) {
    for (var d = 0u; d < VECS; d++) {
        sum0[d] *= by.x;
        sum1[d] *= by.y;
        sum2[d] *= by.z;
        sum3[d] *= by.w;
    }
}

fn load_query(q: ptr<private, array<vec4f, VECS>>, sum: ptr<private, array<vec4f, VECS>>, at: u32) {
    for (var d = 0u; d < VECS; d++) {
        (*q)[d] = queries[at + d];
        (*sum)[d] = vec4f();
    }
}

fn store_out(sum: ptr<private, array<vec4f, VECS>>, at: u32, inverse: f32) {
    for (var d = 0u; d < VECS; d++) {
        out[at + d] = (*sum)[d] * inverse;
    }
}

/// Adds the leaf keys of one row to its sums; state is (highest score, total of weights).
fn own_keys(
    q: ptr<private, array<vec4f, VECS>>,
    sum: ptr<private, array<vec4f, VECS>>,
    range: vec4u,
    kv_head: u32,
    before: vec2f,
) -> vec2f {
    var state = before;
    var key = range.y;
    loop {
        if key < range.z {
            let at = (key * (params.heads / params.group) + kv_head) * VECS;
            var products = vec4f();
            for (var d = 0u; d < VECS; d++) {
                products += (*q)[d] * keys[at + d];
            }
            let s = total_of(products) * params.scale;
            let top = max(state.x, s);
            let shrink = exp(state.x - top);
            let p = exp(s - top);
            state = vec2f(top, state.y * shrink + p);
            for (var d = 0u; d < VECS; d++) {
                (*sum)[d] = (*sum)[d] * shrink + p * values[at + d];
            }
        }
        continuing {
            key++;
            break if key >= range.z;
        }
    }
    return state;
}

@compute @workgroup_size(SUBGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    let job = number / params.heads;
    let head = number % params.heads;
    if job >= params.count {
        return;
    }
    let a = index[params.at + 2u * (params.first + job)];
    let b = index[params.at + 2u * (params.first + job) + 1u];
    let kv_head = head / params.group;
    let shared_keys = a.w + b.y + b.w;
    // Rows past the end repeat the last one and are not stored.
    let in_tile = vec4u(lane) + vec4u(0u, 1u, 2u, 3u) * SUBGROUP;
    let there = in_tile < vec4u(a.y);
    let row = vec4u(a.x) + min(in_tile, vec4u(a.y - 1u));
    let here = (row * params.heads + vec4u(head)) * VECS;
    load_query(&q0, &sum0, here.x);
    load_query(&q1, &sum1, here.y);
    load_query(&q2, &sum2, here.z);
    load_query(&q3, &sum3, here.w);
    let own0 = index[params.more + row.x];
    let own1 = index[params.more + row.y];
    let own2 = index[params.more + row.z];
    let own3 = index[params.more + row.w];
    let seen = vec4u(own0.x, own1.x, own2.x, own3.x);
    var highest = vec4f(LOWEST);
    var total = vec4f();
    var first = 0u;
    loop {
        var at = 0u;
        let loads = first + lane < shared_keys;
        if loads {
            at = place(first + lane, a, b, kv_head);
            for (var d = 0u; d < VECS; d++) {
                mine[d] = keys[at + d];
            }
        }
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 0u)); }
        let t0 = scores(first, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 1u)); }
        let t1 = scores(first + 1u, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 2u)); }
        let t2 = scores(first + 2u, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 3u)); }
        let t3 = scores(first + 3u, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 4u)); }
        let t4 = scores(first + 4u, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 5u)); }
        let t5 = scores(first + 5u, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 6u)); }
        let t6 = scores(first + 6u, seen);
        for (var d = 0u; d < VECS; d++) { add_key(d, subgroupBroadcast(mine[d], 7u)); }
        let t7 = scores(first + 7u, seen);
        let most = max(max(max(t0, t1), max(t2, t3)), max(max(t4, t5), max(t6, t7)));
        if loads {
            for (var d = 0u; d < VECS; d++) {
                mine[d] = values[at + d];
            }
        }
        let top = max(highest, most);
        let shrink = exp(highest - top);
        highest = top;
        shrink_sums(shrink);
        let p0 = weights(t0, top, first, seen);
        let p1 = weights(t1, top, first + 1u, seen);
        let p2 = weights(t2, top, first + 2u, seen);
        let p3 = weights(t3, top, first + 3u, seen);
        let p4 = weights(t4, top, first + 4u, seen);
        let p5 = weights(t5, top, first + 5u, seen);
        let p6 = weights(t6, top, first + 6u, seen);
        let p7 = weights(t7, top, first + 7u, seen);
        for (var d = 0u; d < VECS; d++) { add_value(d, p0, subgroupBroadcast(mine[d], 0u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p1, subgroupBroadcast(mine[d], 1u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p2, subgroupBroadcast(mine[d], 2u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p3, subgroupBroadcast(mine[d], 3u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p4, subgroupBroadcast(mine[d], 4u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p5, subgroupBroadcast(mine[d], 5u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p6, subgroupBroadcast(mine[d], 6u)); }
        for (var d = 0u; d < VECS; d++) { add_value(d, p7, subgroupBroadcast(mine[d], 7u)); }
        total = total * shrink + (((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7)));
        continuing {
            first += SUBGROUP;
            break if first >= shared_keys;
        }
    }
    let state0 = own_keys(&q0, &sum0, select(vec4u(), own0, there.x), kv_head, vec2f(highest.x, total.x));
    let state1 = own_keys(&q1, &sum1, select(vec4u(), own1, there.y), kv_head, vec2f(highest.y, total.y));
    let state2 = own_keys(&q2, &sum2, select(vec4u(), own2, there.z), kv_head, vec2f(highest.z, total.z));
    let state3 = own_keys(&q3, &sum3, select(vec4u(), own3, there.w), kv_head, vec2f(highest.w, total.w));
    if there.x {
        store_out(&sum0, here.x, 1.0 / state0.y);
        lse[here.x / VECS] = state0.x + log(state0.y);
    }
    if there.y {
        store_out(&sum1, here.y, 1.0 / state1.y);
        lse[here.y / VECS] = state1.x + log(state1.y);
    }
    if there.z {
        store_out(&sum2, here.z, 1.0 / state2.y);
        lse[here.z / VECS] = state2.x + log(state2.y);
    }
    if there.w {
        store_out(&sum3, here.w, 1.0 / state3.y);
        lse[here.w / VECS] = state3.x + log(state3.y);
    }
}
