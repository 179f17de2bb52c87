// Sums and maxima over the LANES invocations of a workgroup, through workgroup memory. The order is that of a binary tree
// over the lanes, whatever the values. All lanes must call, and all get the result.

var<workgroup> reduce_slots: array<f32, LANES>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
    reduce_slots[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduce_slots[lane] += reduce_slots[lane + half];
        }
        workgroupBarrier();
    }
    let sum = reduce_slots[0];
    workgroupBarrier();
    return sum;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
    reduce_slots[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduce_slots[lane] = max(reduce_slots[lane], reduce_slots[lane + half]);
        }
        workgroupBarrier();
    }
    let highest = reduce_slots[0];
    workgroupBarrier();
    return highest;
}
