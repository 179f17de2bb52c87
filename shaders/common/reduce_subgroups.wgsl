// Sums and maxima over the LANES invocations of a workgroup: within each subgroup by its own instructions, then over the
// subgroups in their order through workgroup memory. All lanes must call, and all get the result. Two things are
// taken for granted that WGSL does not promise. Subgroups hold consecutive lanes, as every adapter lays them out in a workgroup
// of one dimension. And lanes that left a loop before the call after different rounds are together again at it, as compilers
// for GPUs have it: the size is counted from the lanes that take part.

var<workgroup> reduce_slots: array<f32, LANES>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
    let size = subgroupAdd(1u);
    reduce_slots[lane] = subgroupAdd(value);
    workgroupBarrier();
    var sum = 0.0;
    for (var slot = 0u; slot < LANES; slot += size) {
        sum += reduce_slots[slot];
    }
    workgroupBarrier();
    return sum;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
    let size = subgroupAdd(1u);
    reduce_slots[lane] = subgroupMax(value);
    workgroupBarrier();
    var highest = reduce_slots[0];
    for (var slot = size; slot < LANES; slot += size) {
        highest = max(highest, reduce_slots[slot]);
    }
    workgroupBarrier();
    return highest;
}
