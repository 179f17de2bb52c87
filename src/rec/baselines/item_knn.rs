//! Items that come with the items of the history.

use super::Ranker;
use rayon::prelude::*;

/// How much an item of the history counts for each step that it lies further back.
const DECAY: f32 = 0.7;

/// Scores item i after the history x_1 … x_n by Σ_j 0.7^(n−j) cos(x_j, i), where
/// cos(a, b) = #(sequences with a and b) / √(#(sequences with a) · #(sequences with b)) over the training sequences, and
/// cos(a, a) = 0 (item-based kNN with cosine similarity: Sarwar et al. 2001, for sessions Hidasi et al. 2016).
pub struct ItemKnn {
    /// `starts[a]..starts[a + 1]` are the neighbours of item a.
    starts: Vec<usize>,
    neighbours: Vec<(u32, f32)>,
}

impl ItemKnn {
    /// Counts the training `sequences` over `items` items.
    pub fn new(sequences: &[Vec<u32>], items: usize) -> Self {
        let distinct: Vec<Vec<u32>> = sequences.iter().map(|sequence| different(sequence)).collect();
        let mut met_by: Vec<Vec<u32>> = vec![Vec::new(); items];
        for (number, sequence) in distinct.iter().enumerate() {
            sequence.iter().for_each(|&item| met_by[item as usize].push(number as u32));
        }
        let lists: Vec<Vec<(u32, f32)>> = (0..items)
            .into_par_iter()
            .map_init(|| vec![0u32; items], |counts, item| neighbours(item, &distinct, &met_by, counts))
            .collect();
        let mut starts = vec![0];
        for list in &lists {
            starts.push(starts[starts.len() - 1] + list.len());
        }
        ItemKnn { starts, neighbours: lists.into_iter().flatten().collect() }
    }
}

fn different(sequence: &[u32]) -> Vec<u32> {
    let mut items = sequence.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

/// The other items in the sequences of `item`, with their cosines; `counts` is all zero before and after.
fn neighbours(
    item: usize,
    distinct: &[Vec<u32>],
    met_by: &[Vec<u32>],
    counts: &mut [u32],
) -> Vec<(u32, f32)> {
    let mut found = Vec::new();
    for &other in met_by[item].iter().flat_map(|&sequence| &distinct[sequence as usize]) {
        if counts[other as usize] == 0 {
            found.push(other);
        }
        counts[other as usize] += 1;
    }
    let cosine = |other: u32| {
        let both = f64::from(std::mem::take(&mut counts[other as usize]));
        let norm = met_by[item].len() as f64 * met_by[other as usize].len() as f64;
        (other, (both / norm.sqrt()) as f32)
    };
    let mut list: Vec<(u32, f32)> = found.into_iter().map(cosine).collect();
    list.retain(|(other, _)| *other as usize != item);
    list.sort_unstable_by_key(|(other, _)| *other);
    list
}

impl Ranker for ItemKnn {
    fn scores(&self, history: &[u32], out: &mut [f32]) {
        out.fill(0.0);
        let mut weight = 1.0;
        for &item in history.iter().rev() {
            let item = item as usize;
            for &(other, cosine) in &self.neighbours[self.starts[item]..self.starts[item + 1]] {
                out[other as usize] += weight * cosine;
            }
            weight *= DECAY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn scores_agree_with_a_count_by_hand() {
        // Sequences with item 0: 3, item 1: 2, item 2: 2; 0 with 1: 2, 0 with 2: 1, 1 with 2: 1.
        let knn = ItemKnn::new(&[vec![0, 1, 0], vec![2, 1, 0], vec![0], vec![2]], 4);
        let mut scores = [f32::NAN; 4];
        knn.scores(&[2, 0], &mut scores);
        let (with_0, with_2) = (2.0 / 6f32.sqrt(), 1.0 / 4f32.sqrt());
        assert_relative_eq!(scores[0], 0.7 / 6f32.sqrt(), max_relative = 1e-6);
        assert_relative_eq!(scores[1], with_0 + 0.7 * with_2, max_relative = 1e-6);
        assert_relative_eq!(scores[2], 1.0 / 6f32.sqrt(), max_relative = 1e-6);
        assert_eq!(scores[3], 0.0);
    }

    #[test]
    fn the_latest_item_counts_most() {
        let knn = ItemKnn::new(&[vec![0, 2], vec![1, 3]], 4);
        let mut scores = [0.0; 4];
        knn.scores(&[0, 1], &mut scores);
        assert!(scores[3] > scores[2] && scores[2] > 0.0);
    }
}
