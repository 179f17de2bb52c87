//! Supervised negative Q-learning (Xin et al., arXiv 2111.03474): SQN with sampled negative actions.
//!
//! A negative action was not taken, so the state after it is the state before it, as in the published code: its target
//! bootstraps from s_t itself, at a terminal step too.

/// Where the targets r(s_t, a⁻) + γ·Q'(s_t, argmaxₐ Q(s_t, a)) of `k` negatives a step find their values, of `steps` steps;
/// values as in [`sqn::next_states`](super::sqn::next_states).
pub fn own_states(steps: usize, k: usize) -> Vec<u32> {
    (0..steps as u32).flat_map(|step| std::iter::repeat_n(step, k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DType, Device};
    use crate::ops::td_targets;
    use crate::tensor::Tensor;

    #[test]
    fn negatives_stay_in_their_state() {
        let values = Tensor::from_f64(&Device::Cpu, DType::F64, &[3.0, 1.0], &[2]).unwrap();
        let targets = td_targets(&[0.0, 0.0, 0.1, 0.4], &own_states(2, 2), &values, 0.5).unwrap();
        assert_eq!(targets.to_f64_vec().unwrap(), [1.5, 1.5, 0.6, 0.9]);
    }
}
