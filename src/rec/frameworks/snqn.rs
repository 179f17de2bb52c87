//! Supervised negative Q-learning (Xin et al., arXiv 2111.03474): SQN with sampled negative actions.
//!
//! A negative action was not taken, so the state after it is the state before it, as in the published code: its target
//! bootstraps from s_t itself, at a terminal step too.

/// Targets r(s_t, a⁻) + γ·Q'(s_t, argmaxₐ Q(s_t, a)) of `k` negatives a step; `rewards: [steps, k]`, values as in
/// [`sqn::targets`](super::sqn::targets).
pub fn negative_targets(rewards: &[f64], k: usize, values: &[f64], discount: f64) -> Vec<f64> {
    rewards.iter().enumerate().map(|(place, reward)| reward + discount * values[place / k]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negatives_stay_in_their_state() {
        let rewards = [0.0, 0.0, 0.1, 0.4];
        assert_eq!(negative_targets(&rewards, 2, &[3.0, 1.0], 0.5), [1.5, 1.5, 0.6, 0.9]);
    }
}
