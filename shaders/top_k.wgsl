// The k best of every row of scores: larger first, of equal ones the smaller column; NaN never is.
//   scores [rows, m]; values, ids [rows, k]. Floats are bound as their bits, so that no driver's arithmetic touches them.
//   A candidate is the pair (ordered, column): `ordered` is a score's bits as an integer of the same order, 0 for none.
// One workgroup a row finds the k-th best by radix selection, eight bits a pass over the row, and collects what is no worse.
// select_best: sorts them in workgroup memory, k up to MOST_SORTED. collect: leaves them in `pairs` [rows, width], which
// sort_block, merge_far and merge_near sort (bitonic) and unpack writes out; width is a power of two.
// Bound by memory: two to nine reads of the row, most of them from cache.

const MOST_SORTED: u32 = 1024u;

struct Params {
    rows: u32,
    m: u32,
    k: u32,
    // Pairs that are sorted a row, a power of two, at least MOST_SORTED where `pairs` holds them.
    width: u32,
    // First row of this part in scores, values and ids.
    row: u32,
    // Of a merge: length of the runs it makes, and distance of the pairs it compares.
    run: u32,
    distance: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

fn ordered_of(score: u32) -> u32 {
    if (score & 0x7fffffffu) > 0x7f800000u {
        return 0u;
    }
    if score == 0x80000000u {
        return 0x80000000u;
    }
    return select(~score, score | 0x80000000u, score < 0x80000000u);
}

fn score_of(ordered: u32) -> u32 {
    return select(~ordered, ordered & 0x7fffffffu, ordered >= 0x80000000u);
}

fn better(a: vec2u, b: vec2u) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

@group(0) @binding(1) var<storage, read> scores: array<u32>; // [rows, m]

var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> sums: array<u32, 16>;
// Digit found, how many are still wanted inside it, whether those are all it has.
var<workgroup> found: vec3u;
var<workgroup> taken: atomic<u32>;
// The best of the row.
var<workgroup> best: array<vec2u, MOST_SORTED>;

// The `wanted` best of a row are those whose (ordered, ~column), cut down by `mask`, are at least `prefix`.
struct Threshold {
    mask: vec2u,
    prefix: vec2u,
}

fn threshold_of(first: u32, k: u32, lane: u32) -> Threshold {
    var threshold = Threshold(vec2u(), vec2u());
    var wanted = k;
    for (var digit = 0u; digit < 8u; digit++) {
        atomicStore(&counts[lane], 0u);
        workgroupBarrier();
        let shift = 24u - 8u * (digit & 3u);
        for (var i = lane; i < params.m; i += LANES) {
            let key = vec2u(ordered_of(scores[first + i]), ~i);
            if all((key & threshold.mask) == threshold.prefix) {
                atomicAdd(&counts[(select(key.y, key.x, digit < 4u) >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if lane < 16u {
            var sum = 0u;
            for (var i = 0u; i < 16u; i++) {
                sum += atomicLoad(&counts[lane * 16u + i]);
            }
            sums[lane] = sum;
        }
        workgroupBarrier();
        if lane == 0u {
            var left = wanted;
            var sixteen = 15u;
            for (; sixteen > 0u && sums[sixteen] < left; sixteen--) {
                left -= sums[sixteen];
            }
            var bucket = sixteen * 16u + 15u;
            for (; bucket > sixteen * 16u && atomicLoad(&counts[bucket]) < left; bucket--) {
                left -= atomicLoad(&counts[bucket]);
            }
            found = vec3u(bucket, left, u32(atomicLoad(&counts[bucket]) == left));
        }
        let result = workgroupUniformLoad(&found);
        wanted = result.y;
        if digit < 4u {
            threshold.mask.x |= 255u << shift;
            threshold.prefix.x |= result.x << shift;
        } else {
            threshold.mask.y |= 255u << shift;
            threshold.prefix.y |= result.x << shift;
        }
        if result.z == 1u {
            break;
        }
    }
    return threshold;
}

fn chosen(threshold: Threshold, ordered: u32, column: u32) -> bool {
    let key = vec2u(ordered, ~column) & threshold.mask;
    return key.x > threshold.prefix.x || (key.x == threshold.prefix.x && key.y >= threshold.prefix.y);
}

@group(0) @binding(2) var<storage, read_write> values: array<u32>; // [rows, k]
@group(0) @binding(3) var<storage, read_write> ids: array<u32>; // [rows, k]

@compute @workgroup_size(LANES)
fn select_best(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows {
        return;
    }
    let first = (params.row + row) * params.m;
    let threshold = threshold_of(first, min(params.k, params.m), lane);
    for (var i = lane; i < params.width; i += LANES) {
        best[i] = vec2u(0u, 0xffffffffu);
    }
    if lane == 0u {
        atomicStore(&taken, 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < params.m; i += LANES) {
        let ordered = ordered_of(scores[first + i]);
        if chosen(threshold, ordered, i) {
            best[atomicAdd(&taken, 1u)] = vec2u(ordered, i);
        }
    }
    workgroupBarrier();
    for (var run = 2u; run <= params.width; run *= 2u) {
        for (var distance = run / 2u; distance > 0u; distance /= 2u) {
            for (var i = lane; i < params.width / 2u; i += LANES) {
                let low = i / distance * distance * 2u + i % distance;
                order_near(low, distance, (low & run) == 0u);
            }
            workgroupBarrier();
        }
    }
    for (var i = lane; i < params.k; i += LANES) {
        var pair = vec2u();
        if i < params.width {
            pair = best[i];
        }
        let place = (params.row + row) * params.k + i;
        values[place] = select(0xff800000u, score_of(pair.x), pair.x > 0u);
        ids[place] = select(0xffffffffu, pair.y, pair.x > 0u);
    }
}

fn order_near(low: u32, distance: u32, descending: bool) {
    let a = best[low];
    let b = best[low + distance];
    if better(b, a) == descending {
        best[low] = b;
        best[low + distance] = a;
    }
}

@group(0) @binding(2) var<storage, read_write> pairs: array<vec2u>; // [rows, width]

@compute @workgroup_size(LANES)
fn collect(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows {
        return;
    }
    let first = (params.row + row) * params.m;
    let wanted = min(params.k, params.m);
    let threshold = threshold_of(first, wanted, lane);
    if lane == 0u {
        atomicStore(&taken, 0u);
    }
    workgroupBarrier();
    let base = row * params.width;
    for (var i = lane; i < params.m; i += LANES) {
        let ordered = ordered_of(scores[first + i]);
        if chosen(threshold, ordered, i) {
            pairs[base + atomicAdd(&taken, 1u)] = vec2u(ordered, i);
        }
    }
    for (var i = wanted + lane; i < params.width; i += LANES) {
        pairs[base + i] = vec2u(0u, 0xffffffffu);
    }
}

@group(0) @binding(1) var<storage, read_write> sorted: array<vec2u>; // pairs, [rows, width]

// Whether the run that pair `at` of all rows lies in descends.
fn descends(at: u32, run: u32) -> bool {
    return ((at & (params.width - 1u)) & run) == 0u;
}

fn load_block(base: u32, lane: u32) {
    for (var i = lane; i < MOST_SORTED; i += LANES) {
        best[i] = sorted[base + i];
    }
    workgroupBarrier();
}

fn store_block(base: u32, lane: u32) {
    for (var i = lane; i < MOST_SORTED; i += LANES) {
        sorted[base + i] = best[i];
    }
}

fn merge_block(base: u32, run: u32, farthest: u32, lane: u32) {
    for (var distance = farthest; distance > 0u; distance /= 2u) {
        for (var i = lane; i < MOST_SORTED / 2u; i += LANES) {
            let low = i / distance * distance * 2u + i % distance;
            order_near(low, distance, descends(base + low, run));
        }
        workgroupBarrier();
    }
}

// Sorts every block of MOST_SORTED pairs, alternately up and down.
@compute @workgroup_size(LANES)
fn sort_block(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let base = (group.y * groups.x + group.x) * MOST_SORTED;
    if base >= params.rows * params.width {
        return;
    }
    load_block(base, lane);
    for (var run = 2u; run <= MOST_SORTED; run *= 2u) {
        merge_block(base, run, run / 2u, lane);
    }
    store_block(base, lane);
}

// The steps of a merge whose distance stays inside blocks.
@compute @workgroup_size(LANES)
fn merge_near(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let base = (group.y * groups.x + group.x) * MOST_SORTED;
    if base >= params.rows * params.width {
        return;
    }
    load_block(base, lane);
    merge_block(base, params.run, MOST_SORTED / 2u, lane);
    store_block(base, lane);
}

// One step of a merge at a larger distance.
@compute @workgroup_size(LANES)
fn merge_far(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * LANES + lane;
    if i >= params.rows * params.width / 2u {
        return;
    }
    let low = i / params.distance * params.distance * 2u + i % params.distance;
    let a = sorted[low];
    let b = sorted[low + params.distance];
    if better(b, a) == descends(low, params.run) {
        sorted[low] = b;
        sorted[low + params.distance] = a;
    }
}

@group(0) @binding(1) var<storage, read> results: array<vec2u>; // pairs, [rows, width]

@compute @workgroup_size(LANES)
fn unpack(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * LANES + lane;
    if i >= params.rows * params.k {
        return;
    }
    let row = i / params.k;
    let column = i - row * params.k;
    var pair = vec2u();
    if column < params.width {
        pair = results[row * params.width + column];
    }
    let place = (params.row + row) * params.k + column;
    values[place] = select(0xff800000u, score_of(pair.x), pair.x > 0u);
    ids[place] = select(0xffffffffu, pair.y, pair.x > 0u);
}
