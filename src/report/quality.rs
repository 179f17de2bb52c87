//! What tells whether the labels of a language-model environment are worth anything, on held-out users.

use super::number::{count, fraction};
use super::{Align, Cell, METRIC_NAMES, Scores, Table, json::nan_if_null};
use serde::{Deserialize, Serialize};

/// How often the reward of the action taken next exceeds that of a negative of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairAccuracy {
    /// Kind of the negatives: `uniform`, `popularity`, `candidates`.
    pub negatives: String,
    /// Share of the pairs in which the observed action has the higher reward; 0.5 is chance.
    #[serde(deserialize_with = "nan_if_null")]
    pub accuracy: f64,
    /// The same of the number of interactions in the place of the reward.
    #[serde(deserialize_with = "nan_if_null")]
    pub by_popularity: f64,
    /// Number of pairs.
    pub pairs: u64,
}

/// The augmented action under one way of choosing it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AugmentedQuality {
    /// `reward`, `similarity` or `both`.
    pub choice: String,
    /// Whether the labels were made with this choice.
    pub used: bool,
    /// Share of the steps in which it is the item taken next.
    #[serde(deserialize_with = "nan_if_null")]
    pub hit_rate: f64,
    /// Mean number of interactions of the chosen item.
    #[serde(deserialize_with = "nan_if_null")]
    pub mean_popularity: f64,
}

/// Quality of the environment on held-out users.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentQuality {
    /// Held-out users.
    pub users: u64,
    /// Steps of theirs that were judged.
    pub steps: u64,
    /// Candidates a step among which the augmented action is chosen.
    pub candidates: u64,
    /// Pair accuracy against each kind of negative.
    pub pair_accuracy: Vec<PairAccuracy>,
    /// Ranking of the whole catalogue by similarity to the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<Scores>,
    /// The augmented action under each way of choosing it.
    pub augmented: Vec<AugmentedQuality>,
    /// Mean number of interactions of the item really taken next, beside those of the augmented action.
    #[serde(deserialize_with = "nan_if_null")]
    pub next_item_popularity: f64,
}

impl EnvironmentQuality {
    /// Pair accuracy: one row a kind of negative.
    pub fn pair_table(&self) -> Table {
        let columns = [
            ("negatives", Align::Left),
            ("pair accuracy", Align::Right),
            ("of popularity alone", Align::Right),
            ("pairs", Align::Right),
        ];
        let mut table = Table::new(columns);
        for pair in &self.pair_accuracy {
            let [reward, popularity] = [pair.accuracy, pair.by_popularity].map(|share| format!("{share:.3}"));
            let kind = (&*pair.negatives).into();
            table.row(vec![kind, reward.into(), popularity.into(), count(pair.pairs).into()]);
        }
        table
    }

    /// HR and NDCG of the catalogue ranked by similarity; absent when it was not measured.
    pub fn catalogue_table(&self) -> Option<Table> {
        let scores = self.catalogue?.to_array();
        let mut table = Table::new(METRIC_NAMES.iter().map(|name| (*name, Align::Right)));
        table.row(scores.iter().map(|score| Cell::new(fraction(*score))).collect());
        Some(table)
    }

    /// The augmented action: hit rate and popularity under each choice, beside the true next item.
    pub fn augmented_table(&self) -> Table {
        let columns = [
            ("a^e chosen by", Align::Left),
            ("is the next item", Align::Right),
            ("mean interactions", Align::Right),
        ];
        let mut table = Table::new(columns);
        for action in &self.augmented {
            let used = if action.used { " (used)" } else { "" };
            table.row(vec![
                Cell::new(&*action.choice).with_detail(used),
                format!("{:.1} %", 100.0 * action.hit_rate).into(),
                format!("{:.0}", action.mean_popularity).into(),
            ]);
        }
        table.rule();
        table.row(vec![
            "true next item".into(),
            "100 %".into(),
            format!("{:.0}", self.next_item_popularity).into(),
        ]);
        table
    }
}
