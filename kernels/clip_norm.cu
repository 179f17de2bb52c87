// The factor that clips gradients by their global norm: norm = sqrt(sum of squares), told = {limit / norm, norm} where the norm
// is above the limit, {1, norm} below; {-1, norm} where the norm is no finite number: then nothing may be updated.
//   squares [len], told [2]; no limit is infinite. One block.
// Bound by its launch.
#include "common/reduce.cuh"

KERNEL(256, lea_clip_norm, size_t len, float limit, const float* squares, float* told) {
    float total = 0.0f;
    for (size_t i = threadIdx.x; i < len; i += blockDim.x) total += squares[i];
    total = lea::block_sum(total);
    if (threadIdx.x != 0) return;
    const float norm = sqrtf(total);
    const bool finite = norm <= 3.402823466e38f;  // NaN is not
    told[0] = !finite ? -1.0f : norm > limit ? limit / norm : 1.0f;
    told[1] = norm;
}
