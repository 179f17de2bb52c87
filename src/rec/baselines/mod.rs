//! Recommenders without trained weights, which a trained one has to beat.

mod item_knn;
mod popularity;
mod session_knn;

pub use item_knn::ItemKnn;
pub use popularity::Popularity;
pub use session_knn::SessionKnn;

use super::metrics::Ranking;
use crate::data::{Dataset, Part, Split};
use rayon::prelude::*;

/// Scores every item of the catalogue after a history.
pub trait Ranker: Sync {
    /// Writes a score for every item into `out` (`[items]`), higher is better; `history` is oldest first and not
    /// empty.
    fn scores(&self, history: &[u32], out: &mut [f32]);
}

/// Every baseline by its name, counted on what training may see of `dataset`.
pub fn all(dataset: &Dataset, split: &Split) -> [(&'static str, Box<dyn Ranker>); 3] {
    let sequences = train_sequences(dataset, split);
    let items = dataset.items.len();
    [
        ("popularity", Box::new(Popularity::new(&sequences, items))),
        ("item-knn", Box::new(ItemKnn::new(&sequences, items))),
        ("session-knn", Box::new(SessionKnn::new(&sequences, items))),
    ]
}

/// The item sequences that training may see, one a user that has any; what a baseline counts.
pub fn train_sequences(dataset: &Dataset, split: &Split) -> Vec<Vec<u32>> {
    let events = dataset.users.iter().enumerate().map(|(user, of)| split.train_events(user, &of.events));
    events.filter(|events| !events.is_empty()).map(|events| events.iter().map(|e| e.item).collect()).collect()
}

/// Ranks all items at every step of `part`, each after its last `history` items. Items of the history compete with
/// the others, as in SQN; with `exclude_met` those that the user met up to the step rank last, unless one is the
/// target.
pub fn evaluate(
    ranker: &dyn Ranker,
    dataset: &Dataset,
    split: &Split,
    part: Part,
    history: usize,
    exclude_met: bool,
) -> Ranking {
    let users = dataset.users.par_iter().enumerate();
    let rankings = users.map_init(
        || vec![0.0; dataset.items.len()],
        |scores, (user, of)| {
            let items: Vec<u32> = of.events.iter().map(|event| event.item).collect();
            let mut ranking = Ranking::default();
            for t in split.steps(part, user, items.len()) {
                ranker.scores(&items[(t + 1).saturating_sub(history.max(1))..=t], scores);
                let target = items[t + 1];
                if exclude_met {
                    let met = items[..=t].iter().filter(|&&item| item != target);
                    met.for_each(|&item| scores[item as usize] = f32::NEG_INFINITY);
                }
                ranking.add(scores, target as usize);
            }
            ranking
        },
    );
    rankings.reduce(Ranking::default, |a, b| a.merge(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Event, Feedback, Item, Protocol, TextSource, User};

    fn dataset(items: usize, users: &[&[u32]]) -> Dataset {
        let item = |i| Item { id: format!("{i}"), text: String::new(), fields: Vec::new() };
        let events =
            |items: &[u32]| items.iter().map(|&item| Event { item, kind: Feedback::Other }).collect();
        let user = |(u, items): (usize, &&[u32])| User { id: format!("{u}"), events: events(items) };
        Dataset {
            name: "small".into(),
            columns: Vec::new(),
            text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: String::new() },
            items: (0..items).map(item).collect(),
            users: users.iter().enumerate().map(user).collect(),
        }
    }

    /// Scores each item by its number, and the items of the history by the same above all others.
    struct HistoryFirst;

    impl Ranker for HistoryFirst {
        fn scores(&self, history: &[u32], out: &mut [f32]) {
            out.iter_mut().enumerate().for_each(|(item, score)| *score = item as f32);
            history.iter().for_each(|&item| out[item as usize] += 100.0);
        }
    }

    #[test]
    fn every_step_of_the_part_is_ranked_after_its_own_history_alone() {
        // Leave-one-out tests the last step of users with three events or more: after 1, 3, 0, 2 comes 9 of 30.
        let data = dataset(30, &[&[1, 3, 0, 2, 9], &[4, 5], &[6, 7, 29]]);
        let split = Split::new(&data, Protocol::LeaveOneOut, 0, 1.0).unwrap();
        let rank_of = |history, exclude_met| {
            let ranking = evaluate(&HistoryFirst, &data, &split, Part::Test, history, exclude_met);
            assert_eq!(ranking.steps(), 2);
            ranking
        };
        // Item 29 stands behind its history: rank 3, or 1 without it; item 9 behind 20 items and its history.
        assert_eq!(rank_of(10, false).ndcg(5), 0.5 / (4f64).log2());
        assert_eq!(rank_of(1, false).ndcg(5), 0.5 / (3f64).log2());
        assert_eq!(rank_of(10, true).ndcg(5), 0.5);
    }

    #[test]
    fn baselines_count_what_training_may_see_and_no_more() {
        let data = dataset(9, &[&[0, 1, 2, 3], &[4, 5], &[6, 7, 8]]);
        let split = Split::new(&data, Protocol::LeaveOneOut, 0, 1.0).unwrap();
        assert_eq!(train_sequences(&data, &split), [vec![0, 1], vec![4, 5], vec![6]]);
    }
}
