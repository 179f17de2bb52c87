// Kernels that compute each element from those at its own place: one invocation an element, LANES a workgroup.

/// The element of an invocation; past the end in the last workgroups.
fn element_of(group: vec3u, groups: vec3u, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * LANES + lane;
}
