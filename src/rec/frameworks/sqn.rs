//! Self-supervised Q-learning (Xin et al., arXiv 2006.05779, eq. 5) with double Q-learning (van Hasselt et al., arXiv
//! 1509.06461): the network that is trained chooses the next action, the other one values it.

use crate::ops::td_targets::NO_SOURCE;

/// Where the target r_t + γ·Q'(s_{t+1}, argmaxₐ Q(s_{t+1}, a)) of an observed action finds its value; nowhere at a terminal
/// step.
///
/// Value i is Q'(s, argmaxₐ Q(s, a)) at the state *before* step i. Steps of a user follow one another, so the state
/// after step i is the one before step i + 1 unless i is terminal.
pub fn next_states(terminal: &[bool]) -> Vec<u32> {
    let next = |(i, &ends): (usize, &bool)| if ends { NO_SOURCE } else { i as u32 + 1 };
    terminal.iter().enumerate().map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DType, Device};
    use crate::ops::td_targets;
    use crate::tensor::Tensor;

    #[test]
    fn targets_agree_with_a_count_by_hand() {
        // Two users of three steps and one: γ = 0.5.
        let rewards = [1.0, 0.2, 1.0, 0.2];
        let values = Tensor::from_f64(&Device::Cpu, DType::F64, &[9.0, 4.0, 2.0, 8.0], &[4]).unwrap();
        let sources = next_states(&[false, false, true, true]);
        let targets = |discount| td_targets(&rewards, &sources, &values, discount).unwrap().to_f64_vec();
        assert_eq!(targets(0.5).unwrap(), [3.0, 1.2, 1.0, 0.2]);
        assert_eq!(targets(0.0).unwrap(), rewards);
    }
}
