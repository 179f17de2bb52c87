//! Figures that describe a data set.

use super::dataset::Dataset;
use serde::Serialize;

/// Counts, sequence lengths and text coverage. Words are what stands between white space.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Name of the data set.
    pub name: String,
    /// Number of users (or sessions).
    pub users: usize,
    /// Number of items of the catalogue.
    pub items: usize,
    /// Of them, those that some user met.
    pub items_met: usize,
    /// Number of events.
    pub interactions: usize,
    /// Events that repeat the item of the user's event before.
    pub adjacent_repeats: usize,
    /// Median events a user.
    pub median_length: f64,
    /// Mean events a user.
    pub mean_length: f64,
    /// Fewest events of a user.
    pub min_length: usize,
    /// Most events of a user.
    pub max_length: usize,
    /// Columns that form the text.
    pub text: Vec<String>,
    /// Share of the items that have a text, in percent.
    pub text_coverage: f64,
    /// Mean words of a text, over the items that have one; 0 without texts.
    pub mean_words: f64,
}

impl Stats {
    /// Counts `dataset`.
    pub fn of(dataset: &Dataset) -> Self {
        let mut lengths: Vec<usize> = dataset.users.iter().map(|user| user.events.len()).collect();
        lengths.sort_unstable();
        let words = dataset.items.iter().map(|item| item.text.split_whitespace().count());
        let words: Vec<usize> = words.filter(|&words| words > 0).collect();
        let mut met = vec![false; dataset.items.len()];
        dataset.users.iter().flat_map(|user| &user.events).for_each(|event| met[event.item as usize] = true);
        let repeats = |events: &[_]| {
            events.windows(2).filter(|pair: &&[super::Event]| pair[0].item == pair[1].item).count()
        };
        Stats {
            name: dataset.name.clone(),
            users: lengths.len(),
            items: dataset.items.len(),
            items_met: met.into_iter().filter(|&met| met).count(),
            interactions: dataset.interactions(),
            adjacent_repeats: dataset.users.iter().map(|user| repeats(&user.events)).sum(),
            median_length: median(&lengths),
            mean_length: ratio(dataset.interactions(), lengths.len()),
            min_length: lengths.first().copied().unwrap_or(0),
            max_length: lengths.last().copied().unwrap_or(0),
            text: dataset.text.columns.clone(),
            text_coverage: 100.0 * ratio(words.len(), dataset.items.len()),
            mean_words: ratio(words.iter().sum(), words.len()),
        }
    }
}

fn ratio(sum: usize, count: usize) -> f64 {
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

fn median(sorted: &[usize]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) as f64 / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::dataset::tests::small;
    use super::*;

    #[test]
    fn figures_agree_with_a_count_by_hand() {
        let mut dataset = small(4, &[&[0, 0, 1], &[2], &[1, 2, 1, 1], &[0, 1]]);
        dataset.items[3].text.clear();
        dataset.items[2].text = " one  two three".into();
        let stats = Stats::of(&dataset);
        assert_eq!((stats.users, stats.items, stats.items_met, stats.interactions), (4, 4, 3, 10));
        assert_eq!((stats.median_length, stats.mean_length), (2.5, 2.5));
        assert_eq!((stats.min_length, stats.max_length, stats.adjacent_repeats), (1, 4, 2));
        assert_eq!(stats.text_coverage, 75.0);
        assert_eq!(stats.mean_words, 7.0 / 3.0);
    }
}
