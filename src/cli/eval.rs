//! `lea eval`: a trained recommender or a baseline on the test part.

use super::config::RunConfig;
use super::data::DataArgs;
use super::output;
use super::pipeline::open_folder;
use super::split::SplitArgs;
use crate::data::{Dataset, Part, Split};
use crate::device::Device;
use crate::rec::baselines;
use crate::rec::metrics::Ranking;
use crate::rec::{EvalSteps, evaluate, saved};
use crate::report::{Metrics, MetricsRow, Report, Scores, SeedScores, results_table};
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

impl Baseline {
    /// The name that [`baselines::all`] gives it.
    fn name(self) -> &'static str {
        match self {
            Baseline::Popularity => "popularity",
            Baseline::ItemKnn => "item-knn",
            Baseline::SessionKnn => "session-knn",
        }
    }
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
    /// Configuration whose sections data and split are taken; flags stand over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Recommender that `lea train` or `lea run` wrote, ranked on the split stored with it; may be given several times
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
    /// Folder for metrics.json and report.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the metrics of an earlier evaluation in that folder
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea eval`.
pub fn run(args: EvalCommand) -> Result<()> {
    if args.history == 0 {
        return Err(Error::setting("--history is 0", "let baselines read 1 item or more"));
    }
    let run = args.config.as_deref().map(RunConfig::load).transpose()?.unwrap_or_default();
    let data = args.data.load(run.data.clone())?.dataset;
    let split = match args.model.iter().find_map(|path| stored_split(path)) {
        Some(path) if !args.split.is_given() => Split::load(&path, &data)?,
        _ => args.split.split(&data, &run.split)?,
    };
    if let Some(out) = &args.out {
        open_folder(out, args.overwrite)?;
    }
    let part = if args.validation { Part::Validation } else { Part::Test };
    let mut rows = Vec::new();
    if !args.baseline.is_empty() {
        let all = baselines::all(&data, &split);
        for (name, ranker) in args.baseline.iter().filter_map(|b| all.iter().find(|(n, _)| *n == b.name())) {
            let ranking = baselines::evaluate(&**ranker, &data, &split, part, args.history, false);
            // A baseline draws nothing; the seed is a formality.
            rows.push(([name, "none", "baseline"].map(String::from), 0, ranking));
        }
    }
    for path in &args.model {
        rows.push(rank_model(path, &data, &split, part, &args.device)?);
    }
    let metrics = table(&data.name, &split, &rows)?;
    if let Some(out) = &args.out {
        metrics.write(&out.join("metrics.json"))?;
        let title = format!("lea on {}", data.name);
        let report = Report { title, metrics: Some(metrics.clone()), ..Report::default() };
        report.write_json(&out.join("report.json"))?;
    }
    print(&metrics)
}

/// The split that the training of a recommender wrote: beside it (`lea train`), or in the folder above (`lea run`).
fn stored_split(model: &Path) -> Option<PathBuf> {
    let beside = model.parent()?;
    let above = beside.join("..");
    [beside, &above].into_iter().map(|dir| dir.join("split.json")).find(|path| path.is_file())
}

/// A row of the table: encoder, framework and variant; the seed; what was reached.
type Row = ([String; 3], u64, Ranking);

fn rank_model(path: &Path, data: &Dataset, split: &Split, part: Part, device: &Device) -> Result<Row> {
    let (network, trained_on) = saved::load(path, device)?;
    trained_on.check(path, data, split)?;
    let config = network.config();
    let ranking = evaluate(&network, &EvalSteps::new(data, split, part, config.history))?;
    Ok((config.table_name(), config.seed, ranking))
}

/// HR and NDCG of all `rows`, one recommender's seeds together.
pub(super) fn table(data: &str, split: &Split, rows: &[Row]) -> Result<Metrics> {
    let protocol = serde_json::to_value(split.protocol).unwrap_or_default();
    let empty = Metrics {
        protocol: protocol.as_str().unwrap_or_default().into(),
        data: data.into(),
        test_steps: rows.first().map_or(0, |(.., ranking)| ranking.steps()),
        ..Metrics::default()
    };
    let mut table = empty.clone();
    for ([encoder, framework, variant], seed, ranking) in rows {
        let scores = Scores::from_array(ranking.to_array());
        let row = MetricsRow::new(encoder, framework, variant, vec![SeedScores { seed: *seed, scores }])?;
        table.merge(Metrics { seeds: vec![*seed], rows: vec![row], ..empty.clone() })?;
    }
    Ok(table)
}

/// Prints what `metrics` holds as a table.
pub(super) fn print(metrics: &Metrics) -> Result<()> {
    let Metrics { data, protocol, test_steps, .. } = metrics;
    output::line(format_args!("{data}, protocol {protocol}, {test_steps} steps"))?;
    output::line(results_table(metrics).to_text().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_of_a_recommender_is_found_beside_it_or_above() {
        let dir = tempfile::tempdir().unwrap();
        let (run, rec) = (dir.path().join("run"), dir.path().join("run/rec"));
        std::fs::create_dir_all(&rec).unwrap();
        let model = rec.join("model.safetensors");
        assert_eq!(stored_split(&model), None);
        std::fs::write(run.join("split.json"), "above").unwrap();
        let found = |model| std::fs::read_to_string(stored_split(model).unwrap()).unwrap();
        assert_eq!(found(&model), "above");
        std::fs::write(rec.join("split.json"), "beside").unwrap();
        assert_eq!(found(&model), "beside");
    }
}
