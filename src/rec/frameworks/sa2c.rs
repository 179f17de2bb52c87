//! Supervised advantage actor-critic (Xin et al., arXiv 2111.03474, eq. 9 to 11): SNQN whose cross-entropy is weighted
//! by how much better the observed action is than the mean of itself and the negatives.

/// Advantages Q(s, a⁺) − mean over {a⁺, a⁻…} of Q(s, a), clipped to 0..`clip`; `q: [steps, 1 + k]`, a⁺ first.
pub fn clipped_advantages(q: &[f64], k: usize, clip: f64) -> Vec<f64> {
    let advantage = |row: &[f64]| row[0] - row.iter().sum::<f64>() / row.len() as f64;
    q.chunks_exact(1 + k).map(|row| advantage(row).clamp(0.0, clip)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_agree_with_a_count_by_hand() {
        // 3 − 5/3, then a worse than mean action, then one beyond the clip.
        let q = [3.0, 1.0, 1.0, 0.0, 2.0, 4.0, 90.0, 0.0, 0.0];
        let found = clipped_advantages(&q, 2, 10.0);
        assert!((found[0] - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(found[1..], [0.0, 10.0]);
    }
}
