//! `lea fit`: step 2, the LE.

use super::items::LeArgs;
use super::output;
use super::pipeline::environment::{Base, LeJob};
use super::pipeline::summary::print_quality;
use super::pipeline::{open_folder, settings, timed};
use super::split::SplitArgs;
use crate::Result;
use crate::le::LeData;
use crate::le::item_file::{ITEM_TOKENS, read_item_tokens};
use crate::progress::MetricsLog;
use crate::report::RunRecord;
use clap::Args;
use std::path::PathBuf;

/// `lea fit`.
#[derive(Debug, Args)]
pub struct FitCommand {
    /// Data, decoder, output
    #[command(flatten)]
    pub le: LeArgs,
    /// The split, unless the configuration says
    #[command(flatten)]
    pub split: SplitArgs,
    /// Folder that `lea items` wrote
    #[arg(long, value_name = "DIR")]
    pub item_tokens: PathBuf,
    /// Share of the training users that train the LE, in (0, 1]
    #[arg(long, value_name = "SHARE")]
    pub le_share: Option<f64>,
    /// Passes over the LE's users
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Learning rate of adapters and head
    #[arg(long, value_name = "R")]
    pub learning_rate: Option<f64>,
    /// Learning rate of the item tokens; 0 freezes them
    #[arg(long, value_name = "R")]
    pub item_learning_rate: Option<f64>,
}

/// Runs `lea fit`.
pub fn run(args: FitCommand) -> Result<()> {
    let mut config = args.le.configuration()?;
    let fit = &mut config.le.fit;
    fit.epochs = args.epochs.unwrap_or(fit.epochs);
    fit.learning_rate = args.learning_rate.unwrap_or(fit.learning_rate);
    fit.item_learning_rate = args.item_learning_rate.unwrap_or(fit.item_learning_rate);
    config.split.le_share = args.le_share.unwrap_or(config.split.le_share);
    config.le.check()?;
    let dataset = args.le.data.load(config.data.clone())?.dataset;
    let split = args.split.split(&dataset, &config.split)?;
    let base = Base::load(&args.le.decoder, &args.le.device)?;
    let data = LeData { dataset: &dataset, split: &split };
    let job = LeJob { base: &base, data, settings: &config.le, seed: config.seed };
    let shape = [dataset.items.len(), base.decoder.config.hidden_size];
    let (device, dtype) = (base.decoder.device(), base.decoder.dtype());
    let items = read_item_tokens(&args.item_tokens.join(ITEM_TOKENS), shape, &job.origin()?, &device, dtype)?;
    open_folder(&args.le.out, args.le.overwrite)?;
    let mut record =
        RunRecord::start(args.le.device.describe(), settings(&config)?, vec![config.seed, split.seed]);
    record.data_hash = Some(dataset.hash());
    let mut log = MetricsLog::create(&args.le.out.join("metrics.jsonl"))?;
    let env = job.assemble(&items)?;
    let (epochs, quality) = timed(&mut record, "fit", || job.fit(&env, &mut log))?;
    job.save(&env, &epochs, &quality, &args.le.out)?;
    record.write(&args.le.out.join("run.json"))?;
    print_quality(&quality, &split, &config.le)?;
    output::line(format_args!("written to {}", args.le.out.display()))
}
