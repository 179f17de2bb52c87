//! `lea eval`: a trained recommender or a baseline on the test part.

use super::config::SplitConfig;
use super::data::DataArgs;
use super::output;
use super::split::SplitArgs;
use crate::data::{Dataset, LoadOptions, Part, Split};
use crate::device::Device;
use crate::rec::baselines::{self, ItemKnn, Popularity, SessionKnn, train_sequences};
use crate::rec::metrics::Ranking;
use crate::rec::{EvalSteps, evaluate, saved};
use crate::report::{Metrics, MetricsRow, Scores, SeedScores, results_table};
use crate::{Error, Result};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Recommenders without trained weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// The most frequent items
    Popularity,
    /// Items that share users with the last ones
    ItemKnn,
    /// Items of the most similar users
    SessionKnn,
}

/// `lea eval`.
#[derive(Debug, Args)]
pub struct EvalCommand {
    /// The data set
    #[command(flatten)]
    pub data: DataArgs,
    /// Its split
    #[command(flatten)]
    pub split: SplitArgs,
    /// Recommender that `lea train` wrote; may be given several times
    #[arg(long, value_name = "FILE", required_unless_present = "baseline")]
    pub model: Vec<PathBuf>,
    /// Baseline; may be given several times
    #[arg(long, value_enum)]
    pub baseline: Vec<Baseline>,
    /// Items that a baseline reads at most
    #[arg(long, default_value_t = 10, value_name = "H")]
    pub history: usize,
    /// Rank the validation part instead of the test part
    #[arg(long)]
    pub validation: bool,
    /// Device to compute on
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea eval`.
pub fn run(args: EvalCommand) -> Result<()> {
    let data = args.data.load(LoadOptions::default())?.dataset;
    let split = args.split.split(&data, &SplitConfig::default())?;
    let part = if args.validation { Part::Validation } else { Part::Test };
    let mut rows = Vec::new();
    for &baseline in &args.baseline {
        rows.push(rank_baseline(baseline, &data, &split, part, args.history)?);
    }
    for path in &args.model {
        rows.push(rank_model(path, &data, &split, part, &args.device)?);
    }
    print_table(&data.name, &split, split.seed, &rows)
}

/// Encoder, framework and variant of a row of the table.
type Name = [String; 3];

fn rank_baseline(
    baseline: Baseline,
    data: &Dataset,
    split: &Split,
    part: Part,
    history: usize,
) -> Result<(Name, Ranking)> {
    let sequences = train_sequences(data, split);
    let items = data.items.len();
    let (name, ranker): (_, Box<dyn baselines::Ranker>) = match baseline {
        Baseline::Popularity => ("popularity", Box::new(Popularity::new(&sequences, items))),
        Baseline::ItemKnn => ("item-knn", Box::new(ItemKnn::new(&sequences, items))),
        Baseline::SessionKnn => ("session-knn", Box::new(SessionKnn::new(&sequences, items))),
    };
    let ranking = baselines::evaluate(&*ranker, data, split, part, history, false);
    Ok(([name, "none", "baseline"].map(String::from), ranking))
}

fn rank_model(
    path: &Path,
    data: &Dataset,
    split: &Split,
    part: Part,
    device: &Device,
) -> Result<(Name, Ranking)> {
    let (network, trained_on) = saved::load(path, device)?;
    if trained_on != data.interactions_hash() {
        let problem = "the recommender was trained on other data, or with other filters";
        let remedy = "give the data and the filters that it was trained with";
        return Err(Error::invalid(path, "metadata", problem, remedy));
    }
    let config = network.config();
    let ranking = evaluate(&network, &EvalSteps::new(data, split, part, config.history))?;
    let name = [config.encoder.name(), config.framework.name(), &config.variant_name()];
    Ok((name.map(String::from), ranking))
}

/// Prints the table of HR and NDCG of one seed.
pub(super) fn print_table(data: &str, split: &Split, seed: u64, rows: &[(Name, Ranking)]) -> Result<()> {
    let row = |([encoder, framework, variant], ranking): &(Name, Ranking)| {
        let scores = Scores::from_array(ranking.to_array());
        MetricsRow::new(encoder, framework, variant, vec![SeedScores { seed, scores }])
    };
    let protocol = serde_json::to_value(split.protocol).unwrap_or_default();
    let metrics = Metrics {
        protocol: protocol.as_str().unwrap_or_default().into(),
        data: data.into(),
        test_steps: rows.first().map_or(0, |(_, ranking)| ranking.steps()),
        seeds: vec![seed],
        rows: rows.iter().map(row).collect::<Result<_>>()?,
    };
    let steps = metrics.test_steps;
    output::line(format_args!("{data}, protocol {}, {steps} steps", metrics.protocol))?;
    output::line(results_table(&metrics).to_text().trim_end())
}
