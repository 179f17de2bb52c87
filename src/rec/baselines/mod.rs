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
