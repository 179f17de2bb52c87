//! The items that most training events name.

use super::Ranker;

/// Scores an item by its number of training events, whatever the history.
pub struct Popularity {
    counts: Vec<f32>,
}

impl Popularity {
    /// Counts the training `sequences` over `items` items.
    pub fn new(sequences: &[Vec<u32>], items: usize) -> Self {
        let mut counts = vec![0.0; items];
        sequences.iter().flatten().for_each(|&item| counts[item as usize] += 1.0);
        Popularity { counts }
    }
}

impl Ranker for Popularity {
    fn scores(&self, _history: &[u32], out: &mut [f32]) {
        out.copy_from_slice(&self.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_training_counts() {
        let popularity = Popularity::new(&[vec![0, 2, 2], vec![2, 1]], 4);
        let mut scores = [f32::NAN; 4];
        popularity.scores(&[3], &mut scores);
        assert_eq!(scores, [1.0, 1.0, 3.0, 0.0]);
    }
}
