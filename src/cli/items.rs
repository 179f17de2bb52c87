//! `lea items`: step 1, one token an item.

use super::config::RunConfig;
use super::data::DataArgs;
use super::output;
use super::pipeline::base::OpenBase;
use super::pipeline::{settings, timed};
use super::resume::{self, ResumeArgs, names};
use crate::Result;
use crate::device::{Device, profile};
use crate::le::item_file::{ITEM_TOKENS, write_item_tokens};
use crate::report::RunRecord;
use crate::run_folder::{Fingerprint, Opening};
use crate::tensor::checkpoint::Checkpoints;
use clap::Args;
use std::path::PathBuf;

/// What `items`, `fit` and `label` share.
#[derive(Debug, Args)]
pub struct LeArgs {
    /// The data set
    #[command(flatten)]
    pub data: DataArgs,
    /// Settings; flags stand over them. lea label takes the sections data and le.label, all else from the LE
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Decoder: a Hugging Face model folder, or what `lea pretrain` wrote
    #[arg(long, value_name = "DIR")]
    pub decoder: PathBuf,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the files of an earlier run in that folder
    #[arg(long)]
    pub overwrite: bool,
    /// Seed [default: the configuration's; for lea label, that of the LE]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

impl LeArgs {
    /// The configuration, with the seed that is given put over it.
    pub fn configuration(&self) -> Result<RunConfig> {
        let config = self.config.as_deref().map(RunConfig::load).transpose()?.unwrap_or_default();
        Ok(RunConfig { seed: self.seed.unwrap_or(config.seed), ..config })
    }
}

/// `lea items`.
#[derive(Debug, Args)]
pub struct ItemsCommand {
    /// Data, decoder, output
    #[command(flatten)]
    pub le: LeArgs,
    /// Passes over each item's text
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Learning rate
    #[arg(long, value_name = "R")]
    pub learning_rate: Option<f64>,
    /// Going on after an interruption
    #[command(flatten)]
    pub resume: ResumeArgs,
}

/// Runs `lea items`.
pub fn run(args: ItemsCommand) -> Result<()> {
    let mut config = args.le.configuration()?;
    let items = &mut config.le.items;
    items.epochs = args.epochs.unwrap_or(items.epochs);
    items.learning_rate = args.learning_rate.unwrap_or(items.learning_rate);
    config.le.check()?;
    let reading = profile::range(|| "read".into());
    let opened = OpenBase::new(&args.le.decoder)?;
    let dataset = args.le.data.load(config.data.clone())?.dataset;
    let base = opened.load(&args.le.device)?;
    drop(reading);
    let fingerprint = Fingerprint::new("items")
        .with("settings", &config.le.items)?
        .with("items", dataset.items_hash())?
        .with("decoder", base.describe()?)?
        .with("device", args.le.device.arithmetic())?;
    let opening = Opening {
        inputs: vec![args.le.data.data.clone(), args.le.decoder.clone()],
        outputs: names(&[ITEM_TOKENS, "metrics.jsonl", "run.json"]),
        ..args.resume.opening(&args.le.out, args.le.overwrite, fingerprint)?
    };
    let Some(folder) = resume::open(opening)? else { return Ok(()) };
    let mut record = RunRecord::start(&args.le.device, settings(&config)?, vec![config.seed]);
    record.data_hash = Some(dataset.hash());
    let mut log = folder.log("metrics.jsonl")?;
    let mut keep = Checkpoints::new(&folder, "items", &args.le.device, 0)?;
    let tokens = timed(&mut record, "items", || base.items(&dataset, &config.le.items, &mut log, &mut keep))?;
    let _writing = profile::range(|| "write".into());
    folder.check_still_there()?;
    write_item_tokens(&args.le.out.join(ITEM_TOKENS), &tokens.table, &base.item_origin(&dataset))?;
    record.write(&args.le.out.join("run.json"))?;
    folder.finish()?;
    output::line(format_args!(
        "{} item tokens: {:.3} nats a text token before, {:.3} after; written to {}",
        dataset.items.len(),
        tokens.loss_before,
        tokens.loss_after,
        args.le.out.display()
    ))
}
