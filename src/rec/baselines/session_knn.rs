//! Items of the training sequences that look like the history.

use super::Ranker;

/// How much an item of the history counts for each step that it lies further back, and a candidate for each step that
/// it lies further from the item that matched.
const DECAY: f32 = 0.7;
/// How many of the most similar sequences are asked.
const NEAREST: usize = 500;
/// How far from the item that matched a candidate may lie; beyond, its share is below a thousandth.
const REACH: usize = 20;

/// Session kNN with recency. The similarity of a training sequence s with the history x_1 … x_n is the sum, over the
/// different items of the history that s holds, of 0.7^(n−j), x_j being the item's last place in the history. Each of
/// the 500 most similar sequences (of equal ones, the first) scores the items of s by similarity · 0.7^(d−1): d is the
/// distance in s, at most 20 and in either direction, from the nearest place of the item that matched last in the
/// history to the nearest place of the item scored. (Session kNN of Jannach and Ludewig 2017 with decays like those
/// of Garg et al. 2019.)
pub struct SessionKnn {
    sequences: Vec<Vec<u32>>,
    /// For every item, where it stands: number of the sequence and place in it, ascending.
    places: Vec<Vec<(u32, u32)>>,
}

/// An item of the history at one of its places in a training sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    sequence: u32,
    /// Steps back from the end of the history.
    back: u32,
    place: u32,
}

impl SessionKnn {
    /// Keeps the training `sequences` over `items` items.
    pub fn new(sequences: &[Vec<u32>], items: usize) -> Self {
        let mut places: Vec<Vec<(u32, u32)>> = vec![Vec::new(); items];
        for (number, sequence) in (0..).zip(sequences) {
            for (place, &item) in (0..).zip(sequence) {
                places[item as usize].push((number, place));
            }
        }
        SessionKnn { sequences: sequences.to_vec(), places }
    }

    /// All matches of the history, those of one sequence together, the latest items of the history first.
    fn matches(&self, history: &[u32]) -> Vec<Match> {
        let mut matches = Vec::new();
        for (back, item) in (0u32..).zip(history.iter().rev()) {
            let met_later = &history[history.len() - back as usize..];
            if !met_later.contains(item) {
                let places = self.places[*item as usize].iter();
                matches.extend(places.map(|&(sequence, place)| Match { sequence, back, place }));
            }
        }
        matches.sort_unstable();
        matches
    }

    /// Adds the votes of the sequence of `latest`, the places of the item that matched last in the history.
    fn vote(&self, similarity: f32, latest: &[Match], out: &mut [f32]) {
        let sequence = &self.sequences[latest[0].sequence as usize];
        let mut candidates: Vec<(u32, usize)> = Vec::new();
        for at in latest.iter().map(|found| found.place as usize) {
            let near = at.saturating_sub(REACH)..(at + REACH + 1).min(sequence.len());
            let others = near.filter(|&place| sequence[place] != sequence[at]);
            candidates.extend(others.map(|place| (sequence[place], place.abs_diff(at))));
        }
        candidates.sort_unstable();
        candidates.dedup_by_key(|(item, _)| *item);
        for (item, distance) in candidates {
            out[item as usize] += similarity * DECAY.powi(distance as i32 - 1);
        }
    }
}

/// Similarity of a sequence by its matches, and those of them that are of the latest item.
fn similarity(matches: &[Match]) -> (f32, &[Match]) {
    let items = matches.chunk_by(|a, b| a.back == b.back);
    let similarity = items.clone().map(|places| DECAY.powi(places[0].back as i32)).sum();
    (similarity, items.into_iter().next().unwrap_or_default())
}

impl Ranker for SessionKnn {
    fn scores(&self, history: &[u32], out: &mut [f32]) {
        out.fill(0.0);
        let matches = self.matches(history);
        let mut nearest: Vec<(f32, &[Match])> =
            matches.chunk_by(|a, b| a.sequence == b.sequence).map(similarity).collect();
        // The sort is stable and the sequences ascend.
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (similarity, latest) in nearest.into_iter().take(NEAREST) {
            self.vote(similarity, latest, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn scores(sequences: &[Vec<u32>], history: &[u32]) -> Vec<f32> {
        let mut scores = vec![f32::NAN; 6];
        SessionKnn::new(sequences, 6).scores(history, &mut scores);
        scores
    }

    #[test]
    fn scores_agree_with_a_count_by_hand() {
        // The first sequence matches items 1 and 0, the second item 0 alone.
        let found = scores(&[vec![0, 1, 2, 3, 1, 3], vec![4, 5, 0]], &[0, 1]);
        let expected = [1.7, 0.0, 1.7, 1.7, 0.7 * 0.7, 0.7];
        for (found, expected) in found.into_iter().zip(expected) {
            assert_relative_eq!(found, expected, max_relative = 1e-6);
        }
    }

    #[test]
    fn an_item_twice_in_the_history_counts_once_at_its_last_place() {
        let sequences = [vec![0, 2], vec![1, 3]];
        assert_eq!(scores(&sequences, &[0, 1, 0]), scores(&sequences, &[1, 0]));
    }

    #[test]
    fn candidates_beyond_reach_and_items_unseen_score_nothing() {
        let mut long: Vec<u32> = vec![0; 30];
        long[0] = 1;
        long[9] = 2;
        long[29] = 3;
        let found = scores(&[long], &[2]);
        assert!(found[1] > 0.0 && found[3] > 0.0 && found[4] == 0.0);
        let mut longer: Vec<u32> = vec![0; 40];
        (longer[0], longer[30]) = (1, 2);
        assert_eq!(scores(&[longer], &[2])[1], 0.0);
    }
}
