// Forest attention: softmax(scale * q . K^T) V where a query row sees at most four ranges of key rows, and gradients.
//   q, out, dq, dout [rows, heads, VECS]; k, v, dk, dv [keys, kv_heads, VECS], elements of four: a head is 4 * VECS wide.
//   lse [rows, heads]; stats [rows, heads] of (lse, dout . out).
// forward, backward_queries: an invocation is a query row of one head, a workgroup at most ROWS rows whose shared keys are
//   one list: all read the same key at a time, so a key costs one read a workgroup. Through a window rows begin one key
//   apart and read neighbours. Leaf keys follow, each row its own.
// backward_shared_keys, backward_own_keys: an invocation is a key row of one key head. Keys that many rows see take the
//   rows one after another, all invocations the same, in parts whose sums sum_parts adds; keys of few rows take their own.
// A row's sums run over its own keys in their order, in steps counted from its first: what else the pack holds does not
// matter. Bound by arithmetic from about 16 rows a tile on, on processors: on hardware it is not measured. An invocation keeps
// whole heads in private arrays, of 128 elements 256 floats in forward and 512 in the gradients of keys: what does not fit
// a GPU's registers goes through its memory, and may bound the kernel there.
// Where a software adapter has subgroups of 8, forward is that of forest_attention_subgroups.wgsl.

@group(0) @binding(5) var<storage, read_write> out: array<vec4f>; // [rows, heads, VECS]
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [rows, heads]

/// The row of this invocation: query and gradient of its output, or key and value.
var<private> mine: array<vec4f, VECS>;
var<private> mine_too: array<vec4f, VECS>;
/// What is summed for it.
var<private> sum: array<vec4f, VECS>;
var<private> sum_too: array<vec4f, VECS>;

/// Places in k and v of the keys at four positions of a tile's list, which repeats its last key.
fn places(first: u32, shared_keys: u32, a: vec4u, b: vec4u, kv_head: u32) -> vec4u {
    let position = min(vec4u(first) + vec4u(0u, 1u, 2u, 3u), vec4u(shared_keys - 1u));
    let in_trunk = position - vec4u(a.w);
    let in_stem = in_trunk - vec4u(b.y);
    let later = select(vec4u(b.z) + in_stem, vec4u(b.x) + in_trunk, position < vec4u(a.w + b.y));
    let key = select(later, vec4u(a.z) + position, position < vec4u(a.w));
    return (key * (params.heads / params.group) + vec4u(kv_head)) * VECS;
}

/// mine . k of four keys.
fn key_products(at: vec4u) -> vec4f {
    var s0 = vec4f();
    var s1 = vec4f();
    var s2 = vec4f();
    var s3 = vec4f();
    for (var d = 0u; d < VECS; d++) {
        let x = mine[d];
        s0 += x * keys[at.x + d];
        s1 += x * keys[at.y + d];
        s2 += x * keys[at.z + d];
        s3 += x * keys[at.w + d];
    }
    return vec4f(total_of(s0), total_of(s1), total_of(s2), total_of(s3));
}

/// mine_too . v of four keys.
fn value_products(at: vec4u) -> vec4f {
    var s0 = vec4f();
    var s1 = vec4f();
    var s2 = vec4f();
    var s3 = vec4f();
    for (var d = 0u; d < VECS; d++) {
        let x = mine_too[d];
        s0 += x * values[at.x + d];
        s1 += x * values[at.y + d];
        s2 += x * values[at.z + d];
        s3 += x * values[at.w + d];
    }
    return vec4f(total_of(s0), total_of(s1), total_of(s2), total_of(s3));
}

@compute @workgroup_size(ROWS)
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
    if lane >= a.y {
        return;
    }
    let row = a.x + lane;
    let kv_head = head / params.group;
    let own = index[params.more + row]; // shared keys, leaf from, leaf to, shared keys of the tile ahead of its own
    let shared_keys = a.w + b.y + b.w;
    let here = (row * params.heads + head) * VECS;
    for (var d = 0u; d < VECS; d++) {
        mine[d] = queries[here + d];
        sum[d] = vec4f();
    }
    var highest = LOWEST;
    var total = 0.0;
    for (var first = 0u; first < own.x; first += 8u) {
        let at = places(own.w + first, shared_keys, a, b, kv_head);
        let bt = places(own.w + first + 4u, shared_keys, a, b, kv_head);
        let positions = vec4u(first) + vec4u(0u, 1u, 2u, 3u);
        let sees = positions < vec4u(own.x);
        let sees_too = positions + vec4u(4u) < vec4u(own.x);
        let s = select(vec4f(LOWEST), key_products(at) * params.scale, sees);
        let t = select(vec4f(LOWEST), key_products(bt) * params.scale, sees_too);
        let most = max(s, t);
        let top = max(highest, max(max(most.x, most.y), max(most.z, most.w)));
        let shrink = exp(highest - top);
        let p = select(vec4f(), exp(s - vec4f(top)), sees);
        let r = select(vec4f(), exp(t - vec4f(top)), sees_too);
        highest = top;
        total = total * shrink + total_of(p + r);
        for (var d = 0u; d < VECS; d++) {
            var x = sum[d] * shrink;
            x += p.x * values[at.x + d];
            x += p.y * values[at.y + d];
            x += p.z * values[at.z + d];
            x += p.w * values[at.w + d];
            x += r.x * values[bt.x + d];
            x += r.y * values[bt.y + d];
            x += r.z * values[bt.z + d];
            x += r.w * values[bt.w + d];
            sum[d] = x;
        }
    }
    for (var key = own.y; key < own.z; key++) {
        let at = (key * (params.heads / params.group) + kv_head) * VECS;
        var products = vec4f();
        for (var d = 0u; d < VECS; d++) {
            products += mine[d] * keys[at + d];
        }
        let s = total_of(products) * params.scale;
        let top = max(highest, s);
        let shrink = exp(highest - top);
        let p = exp(s - top);
        highest = top;
        total = total * shrink + p;
        for (var d = 0u; d < VECS; d++) {
            sum[d] = sum[d] * shrink + p * values[at + d];
        }
    }
    let inverse = 1.0 / total;
    for (var d = 0u; d < VECS; d++) {
        out[here + d] = sum[d] * inverse;
    }
    lse[row * params.heads + head] = highest + log(total);
}

@group(0) @binding(1) var<storage, read> kept_out: array<vec4f>; // out of forward, [rows, heads, VECS]
@group(0) @binding(2) var<storage, read> grads: array<vec4f>; // dout, [rows, heads, VECS]
@group(0) @binding(3) var<storage, read> kept_lse: array<f32>; // lse of forward, [rows, heads]
@group(0) @binding(4) var<storage, read_write> made_stats: array<vec2f>; // [rows, heads]

/// One invocation a row and head; `count` of them.
@compute @workgroup_size(ROWS)
fn backward_stats(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * ROWS + lane;
    if i >= params.count {
        return;
    }
    var products = vec4f();
    for (var d = 0u; d < VECS; d++) {
        products += kept_out[i * VECS + d] * grads[i * VECS + d];
    }
    made_stats[i] = vec2f(kept_lse[i], total_of(products));
}

@group(0) @binding(5) var<storage, read> dout: array<vec4f>; // [rows, heads, VECS]
@group(0) @binding(6) var<storage, read> stats: array<vec2f>; // [rows, heads]
@group(0) @binding(7) var<storage, read_write> dq: array<vec4f>; // [rows, heads, VECS]

@compute @workgroup_size(ROWS)
fn backward_queries(
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
    if lane >= a.y {
        return;
    }
    let row = a.x + lane;
    let kv_head = head / params.group;
    let own = index[params.more + row];
    let shared_keys = a.w + b.y + b.w;
    let here = (row * params.heads + head) * VECS;
    let of_row = stats[row * params.heads + head];
    for (var d = 0u; d < VECS; d++) {
        mine[d] = queries[here + d];
        mine_too[d] = dout[here + d];
        sum[d] = vec4f();
    }
    for (var first = 0u; first < own.x; first += 4u) {
        let at = places(own.w + first, shared_keys, a, b, kv_head);
        let sees = vec4u(first) + vec4u(0u, 1u, 2u, 3u) < vec4u(own.x);
        let s = select(vec4f(LOWEST), key_products(at) * params.scale, sees);
        let p = exp(s - vec4f(of_row.x));
        let ds = select(vec4f(), p * (value_products(at) - vec4f(of_row.y)) * params.scale, sees);
        for (var d = 0u; d < VECS; d++) {
            var x = sum[d];
            x += ds.x * keys[at.x + d];
            x += ds.y * keys[at.y + d];
            x += ds.z * keys[at.z + d];
            x += ds.w * keys[at.w + d];
            sum[d] = x;
        }
    }
    for (var key = own.y; key < own.z; key++) {
        let at = (key * (params.heads / params.group) + kv_head) * VECS;
        var s = vec4f();
        var dp = vec4f();
        for (var d = 0u; d < VECS; d++) {
            s += mine[d] * keys[at + d];
            dp += mine_too[d] * values[at + d];
        }
        let p = exp(total_of(s) * params.scale - of_row.x);
        let ds = p * (total_of(dp) - of_row.y) * params.scale;
        for (var d = 0u; d < VECS; d++) {
            sum[d] += ds * keys[at + d];
        }
    }
    for (var d = 0u; d < VECS; d++) {
        dq[here + d] = sum[d];
    }
}

@group(0) @binding(7) var<storage, read_write> dk: array<vec4f>; // [keys, kv_heads, VECS], of parts [parts, ROWS, ..]
@group(0) @binding(8) var<storage, read_write> dv: array<vec4f>; // like dk

fn load_key(here: u32) {
    for (var d = 0u; d < VECS; d++) {
        mine[d] = keys[here + d];
        mine_too[d] = values[here + d];
        sum[d] = vec4f();
        sum_too[d] = vec4f();
    }
}

fn store_key(there: u32) {
    for (var d = 0u; d < VECS; d++) {
        dk[there + d] = sum[d];
        dv[there + d] = sum_too[d];
    }
}

fn within(key: u32, ranges: vec4u) -> bool {
    return (key >= ranges.x && key < ranges.y) || (key >= ranges.z && key < ranges.w);
}

fn sees(row: u32, key: u32) -> bool {
    let at = params.ranges + 2u * row;
    return within(key, index[at]) || within(key, index[at + 1u]);
}

/// Adds what query row `row` of `head` gives to the sums of a key that it sees where `seen`.
fn add_row(row: u32, head: u32, seen: bool) {
    let at = (row * params.heads + head) * VECS;
    var s = vec4f();
    var dp = vec4f();
    for (var d = 0u; d < VECS; d++) {
        s += mine[d] * queries[at + d];
        dp += mine_too[d] * dout[at + d];
    }
    let of_row = stats[row * params.heads + head];
    let score = select(LOWEST, total_of(s) * params.scale, seen);
    let p = select(0.0, exp(score - of_row.x), seen);
    let ds = select(0.0, p * (total_of(dp) - of_row.y) * params.scale, seen);
    for (var d = 0u; d < VECS; d++) {
        sum[d] += ds * queries[at + d];
        sum_too[d] += p * dout[at + d];
    }
}

/// A job is (first key, keys, first span, spans); a span is (from row, to row).
@compute @workgroup_size(ROWS)
fn backward_shared_keys(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    let kv_heads = params.heads / params.group;
    let part = number / kv_heads;
    let kv_head = number % kv_heads;
    if part >= params.count {
        return;
    }
    let job = index[params.at + params.first + part];
    if lane >= job.y {
        return;
    }
    let key = job.x + lane;
    load_key((key * kv_heads + kv_head) * VECS);
    for (var i = 0u; i < job.w; i++) {
        let span = index[params.more + job.z + i];
        for (var row = span.x; row < span.y; row++) {
            let seen = sees(row, key);
            for (var j = 0u; j < params.group; j++) {
                add_row(row, kv_head * params.group + j, seen);
            }
        }
    }
    store_key(((part * ROWS + lane) * kv_heads + kv_head) * VECS);
}

/// A job is (first key, keys); a key has (from row, to row).
@compute @workgroup_size(ROWS)
fn backward_own_keys(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    let kv_heads = params.heads / params.group;
    let kv_head = number % kv_heads;
    if number / kv_heads >= params.count {
        return;
    }
    let job = index[params.at + params.first + number / kv_heads];
    if lane >= job.y {
        return;
    }
    let key = job.x + lane;
    let here = (key * kv_heads + kv_head) * VECS;
    load_key(here);
    let span = index[params.more + key];
    for (var row = span.x; row < span.y; row++) {
        let seen = sees(row, key);
        for (var j = 0u; j < params.group; j++) {
            add_row(row, kv_head * params.group + j, seen);
        }
    }
    store_key(here);
}

@group(0) @binding(2) var<storage, read> dk_parts: array<vec4f>; // [parts, ROWS, kv_heads, VECS]
@group(0) @binding(3) var<storage, read> dv_parts: array<vec4f>; // like dk_parts
@group(0) @binding(4) var<storage, read_write> dk_sum: array<vec4f>; // [keys, kv_heads, VECS]
@group(0) @binding(5) var<storage, read_write> dv_sum: array<vec4f>; // like dk_sum

/// One workgroup a block of keys (first key, keys, first part, parts); `more` is the first part of the launch.
@compute @workgroup_size(ROWS)
fn sum_parts(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    if number >= params.count {
        return;
    }
    let block = index[params.at + params.first + number];
    let width = params.heads / params.group * VECS;
    for (var i = lane; i < block.y * width; i += ROWS) {
        var k = vec4f();
        var v = vec4f();
        for (var part = 0u; part < block.w; part++) {
            let at = (block.z - params.more + part) * ROWS * width + i;
            k += dk_parts[at];
            v += dv_parts[at];
        }
        dk_sum[block.x * width + i] = k;
        dv_sum[block.x * width + i] = v;
    }
}

@group(0) @binding(1) var<storage, read> narrow: array<f32>; // [count, first]
@group(0) @binding(2) var<storage, read_write> wide: array<f32>; // [count, more]

/// Copies `count` heads of width `first` to width `more`: cut, or filled with zeros. One invocation an element.
@compute @workgroup_size(ROWS)
fn set_width(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * ROWS + lane;
    let head = i / params.more;
    let d = i % params.more;
    if head >= params.count {
        return;
    }
    if d < params.first {
        wide[i] = narrow[head * params.first + d];
    } else {
        wide[i] = 0.0;
    }
}
