//! `metrics.json`: what every recommender of a run reached on the test part.

use super::json;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The metrics in the order of tables: hit ratio and NDCG at 5, 10 and 20.
pub const METRIC_NAMES: [&str; 6] = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20"];

/// Hit ratio and normalised discounted cumulative gain at 5, 10 and 20, each in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Share of the steps whose item is among the first 5.
    #[serde(rename = "hr@5")]
    pub hr_5: f64,
    /// Mean of 1/log2(1 + rank) over the steps, 0 beyond rank 5.
    #[serde(rename = "ndcg@5")]
    pub ndcg_5: f64,
    /// Share of the steps whose item is among the first 10.
    #[serde(rename = "hr@10")]
    pub hr_10: f64,
    /// Mean of 1/log2(1 + rank) over the steps, 0 beyond rank 10.
    #[serde(rename = "ndcg@10")]
    pub ndcg_10: f64,
    /// Share of the steps whose item is among the first 20.
    #[serde(rename = "hr@20")]
    pub hr_20: f64,
    /// Mean of 1/log2(1 + rank) over the steps, 0 beyond rank 20.
    #[serde(rename = "ndcg@20")]
    pub ndcg_20: f64,
}

impl Scores {
    /// The six values in the order of [`METRIC_NAMES`].
    pub fn to_array(&self) -> [f64; 6] {
        [self.hr_5, self.ndcg_5, self.hr_10, self.ndcg_10, self.hr_20, self.ndcg_20]
    }

    /// The scores from six values in the order of [`METRIC_NAMES`].
    pub fn from_array([hr_5, ndcg_5, hr_10, ndcg_10, hr_20, ndcg_20]: [f64; 6]) -> Self {
        Scores { hr_5, ndcg_5, hr_10, ndcg_10, hr_20, ndcg_20 }
    }
}

/// What one training run with one seed reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SeedScores {
    /// Seed of the run.
    pub seed: u64,
    /// What it reached.
    #[serde(flatten)]
    pub scores: Scores,
}

/// One row of the results: a recommender and its scores, over one or several seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// `sasrec`, `gru4rec`, …; a baseline's own name (`popularity`, `item-knn`, `session-knn`).
    pub encoder: String,
    /// `sqn`, `snqn`, `sa2c`; `none` for supervised training and baselines.
    pub framework: String,
    /// `base`, `state`, `reward`, `state_reward`, `lea`, `supervised` or `baseline`.
    pub variant: String,
    /// Mean over the seeds.
    pub mean: Scores,
    /// Standard deviation over the seeds (n − 1 in the denominator); absent with a single seed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sd: Option<Scores>,
    /// Every seed's scores, in the order of the seeds.
    pub per_seed: Vec<SeedScores>,
}

impl MetricsRow {
    /// A row from the scores of one or more seeds, whose mean and deviation it computes.
    ///
    /// # Errors
    /// Without any score, or with one that is not a finite number.
    pub fn new(encoder: &str, framework: &str, variant: &str, per_seed: Vec<SeedScores>) -> Result<Self> {
        let name = format!("{encoder} {framework} {variant}");
        if per_seed.is_empty() {
            return Err(Error::setting(format!("{name}: no scores to report"), "evaluate at least one seed"));
        }
        if let Some(bad) = per_seed.iter().find(|run| run.scores.to_array().iter().any(|v| !v.is_finite())) {
            return Err(Error::setting(
                format!("{name}, seed {}: a score is not a finite number", bad.seed),
                "the model has diverged: lower its learning rate",
            ));
        }
        let n = per_seed.len() as f64;
        let mean: [f64; 6] =
            std::array::from_fn(|i| per_seed.iter().map(|run| run.scores.to_array()[i]).sum::<f64>() / n);
        let deviation = |i: usize| {
            let squares =
                per_seed.iter().map(|run| (run.scores.to_array()[i] - mean[i]).powi(2)).sum::<f64>();
            (squares / (n - 1.0)).sqrt()
        };
        let sd = (per_seed.len() > 1).then(|| Scores::from_array(std::array::from_fn(deviation)));
        Ok(MetricsRow {
            encoder: encoder.into(),
            framework: framework.into(),
            variant: variant.into(),
            mean: Scores::from_array(mean),
            sd,
            per_seed,
        })
    }
}

/// The content of `metrics.json`. It holds no times, so that equal runs give equal bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Evaluation protocol: `sqn` or `leave-one-out`.
    pub protocol: String,
    /// Name of the data set.
    pub data: String,
    /// Number of steps that the test part asks every recommender to predict.
    pub test_steps: u64,
    /// Seeds of the recommenders, in the order of the runs.
    pub seeds: Vec<u64>,
    /// One row a recommender, in the order in which tables show them.
    pub rows: Vec<MetricsRow>,
}

impl Metrics {
    /// Writes `metrics.json`: the same values give the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }

    /// Reads `metrics.json`; what does not fit is an error with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        json::read(path, "run `lea eval` again to write the file anew")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, first: f64) -> SeedScores {
        SeedScores { seed, scores: Scores::from_array([first, 0.1, 0.2, 0.1 + 0.2, 1.0 / 3.0, 0.0]) }
    }

    #[test]
    fn mean_and_deviation_match_a_hand_case() {
        let row =
            MetricsRow::new("sasrec", "snqn", "lea", vec![run(0, 0.1), run(1, 0.2), run(2, 0.3)]).unwrap();
        assert!((row.mean.hr_5 - 0.2).abs() < 1e-12);
        assert!((row.sd.unwrap().hr_5 - 0.1).abs() < 1e-12);
        assert_eq!(MetricsRow::new("a", "b", "c", vec![run(0, 0.1)]).unwrap().sd, None);
    }

    #[test]
    fn rows_without_finite_scores_are_refused() {
        assert!(MetricsRow::new("a", "b", "c", vec![]).is_err());
        let message = MetricsRow::new("a", "b", "c", vec![run(7, f64::NAN)]).unwrap_err().to_string();
        assert!(message.contains("a b c, seed 7"), "{message}");
    }

    #[test]
    fn a_written_file_reads_back_bit_for_bit_and_writes_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a/metrics.json"), dir.path().join("b.json"));
        let metrics = Metrics {
            protocol: "sqn".into(),
            data: "made \"up\"".into(),
            test_steps: 12,
            seeds: vec![3, u64::MAX],
            rows: vec![
                MetricsRow::new("sasrec", "snqn", "lea", vec![run(3, 0.1), run(u64::MAX, 0.7 / 3.0)])
                    .unwrap(),
                MetricsRow::new("popularity", "none", "baseline", vec![run(3, 5e-324)]).unwrap(),
            ],
        };
        metrics.write(&first).unwrap();
        let back = Metrics::read(&first).unwrap();
        assert_eq!(back, metrics);
        back.write(&second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    }

    #[test]
    fn a_missing_score_is_an_error_with_place_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.json");
        let row = MetricsRow::new("a", "b", "c", vec![run(0, 0.5)]).unwrap();
        Metrics { rows: vec![row], ..Metrics::default() }.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"ndcg@10\"", "\"ndcg@11\"", 1)).unwrap();
        let message = Metrics::read(&path).unwrap_err().to_string();
        assert!(
            message.contains("ndcg@11") && message.contains("line ") && message.contains("lea eval"),
            "{message}"
        );
    }
}
