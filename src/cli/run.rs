//! `lea run`: the whole method on a data set.

use super::config::{RunConfig, SplitConfig};
use super::data::DataArgs;
use super::pipeline::Pipeline;
use super::pipeline::base::OpenBase;
use super::pipeline::given_labels::GivenLabels;
use super::resume::ResumeArgs;
use crate::Result;
use crate::data::{Split, check_unmet};
use crate::device::Device;
use crate::rec::RecConfig;
use clap::Args;
use std::path::PathBuf;

/// `lea run`.
#[derive(Debug, Args)]
pub struct RunCommand {
    /// Settings, as in configs/
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The data set
    #[command(flatten)]
    pub data: DataArgs,
    /// Decoder, a Hugging Face model folder [default: one trained from scratch on the items' texts]
    #[arg(long, value_name = "DIR")]
    pub decoder: Option<PathBuf>,
    /// Labels that `lea label` wrote: compares recommenders on them, and makes no LE
    #[arg(long, value_name = "DIR", conflicts_with = "decoder")]
    pub labels: Option<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR", default_value = "out/run")]
    pub out: PathBuf,
    /// Replace the files of an earlier run in that folder
    #[arg(long)]
    pub overwrite: bool,
    /// Going on after an interruption
    #[command(flatten)]
    pub resume: ResumeArgs,
    /// Seed of the LE [default: the configuration's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Seeds of the recommenders, separated by commas [default: the configuration's]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub seeds: Option<Vec<u64>>,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea run`.
pub fn run(args: RunCommand) -> Result<()> {
    let mut config = RunConfig::load(&args.config)?;
    config.seed = args.seed.unwrap_or(config.seed);
    config.plan.seeds = args.seeds.unwrap_or(config.plan.seeds);
    config.data = args.data.read.over(config.data);
    config.check()?;
    // What can be wrong is found before anything is written.
    config.pretrain.check()?;
    let opened = args.decoder.as_deref().map(OpenBase::new).transpose()?;
    let loaded = args.data.load(config.data.clone())?;
    let decoder = opened.map(|opened| opened.load(&args.device)).transpose()?;
    let given = |dir: &PathBuf| GivenLabels::load(dir, &loaded.dataset, None);
    let labels = args.labels.as_ref().map(given).transpose()?;
    match &labels {
        Some(labels) => config.split = labels.agree_with(&config.split)?,
        None => {
            let SplitConfig { protocol, seed, le_share } = config.split;
            Split::new(&loaded.dataset, protocol, seed, le_share)?;
        }
    }
    let drawn = config.recommenders()?.iter().map(RecConfig::negatives_used).max().unwrap_or(0);
    let labelled = if labels.is_some() { 0 } else { config.le.most_negatives() };
    check_unmet(&loaded.dataset, loaded.dataset.items.len(), drawn.max(labelled))?;
    let title = format!("lea on {}", loaded.dataset.name);
    let pipeline = Pipeline {
        config: &config,
        loaded: &loaded,
        decoder,
        labels,
        device: args.device,
        out: &args.out,
        overwrite: args.overwrite,
        resume: &args.resume,
        command: "run",
        source: Some(args.data.data),
        title: &title,
    };
    pipeline.run()
}
