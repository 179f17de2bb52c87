//! Self-supervised Q-learning (Xin et al., arXiv 2006.05779, eq. 5) with double Q-learning (van Hasselt et al., arXiv
//! 1509.06461): the network that is trained chooses the next action, the other one values it.

/// Targets r_t + γ·Q'(s_{t+1}, argmaxₐ Q(s_{t+1}, a)) of the observed actions; r_t alone at a terminal step.
///
/// `values[i]` is Q'(s, argmaxₐ Q(s, a)) at the state *before* step i. Steps of a user follow one another, so the state
/// after step i is the one before step i + 1 unless i is terminal.
pub fn targets(rewards: &[f64], values: &[f64], terminal: &[bool], discount: f64) -> Vec<f64> {
    let next = |i: usize| match terminal[i] {
        true => 0.0,
        false => values[i + 1],
    };
    rewards.iter().enumerate().map(|(i, reward)| reward + discount * next(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_agree_with_a_count_by_hand() {
        // Two users of three steps and one: γ = 0.5.
        let rewards = [1.0, 0.2, 1.0, 0.2];
        let values = [9.0, 4.0, 2.0, 8.0];
        let terminal = [false, false, true, true];
        assert_eq!(targets(&rewards, &values, &terminal, 0.5), [3.0, 1.2, 1.0, 0.2]);
        assert_eq!(targets(&rewards, &values, &terminal, 0.0), rewards);
    }
}
