// Targets of temporal differences: target = reward + discount values[source], the reward alone where the source is no place
// among the values.
//   rewards, sources, targets [len]; values [count]. One thread an element.
// Bound by memory.
#include "common/lea.cuh"

KERNEL(256, lea_td_targets, size_t len, unsigned count, float discount, const float* rewards, const unsigned* sources,
       const float* values, float* targets) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    const unsigned source = sources[i];
    targets[i] = source < count ? rewards[i] + discount * values[source] : rewards[i];
}
