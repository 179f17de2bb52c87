// Pairwise loss -log sigma(p - q - margin), and its gradients.
//   positive, dpositive [n]; negative, losses, grad, dnegative [n, k].
// forward, backward: one thread a pair. backward_positive: one warp a positive sums over its pairs. Bound by a logarithm a pair;
// the sums by memory.
#include "common/math.cuh"

KERNEL(256, lea_log_sigmoid_forward, size_t len, size_t k, float margin, const float* positive, const float* negative,
       float* losses) {
    const size_t i = lea::global_thread();
    if (i < len) losses[i] = -lea::log_sigmoid(positive[i / k] - negative[i] - margin);
}

KERNEL(256, lea_log_sigmoid_backward, size_t len, size_t k, float margin, const float* positive, const float* negative,
       const float* grad, float* dnegative) {
    const size_t i = lea::global_thread();
    if (i < len) dnegative[i] = grad[i] * lea::sigmoid(negative[i] + margin - positive[i / k]);
}

KERNEL(256, lea_log_sigmoid_backward_positive, size_t n, size_t k, const float* dnegative, float* dpositive) {
    const size_t row = lea::global_thread() / lea::WARP;
    if (row >= n) return;
    float sum = 0.0f;
    for (size_t j = threadIdx.x % lea::WARP; j < k; j += lea::WARP) sum += dnegative[row * k + j];
    sum = lea::warp_sum(sum);
    if (threadIdx.x % lea::WARP == 0) dpositive[row] = -sum;
}
