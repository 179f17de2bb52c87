//! `lea pretrain`.

use super::config::RunConfig;
use super::data::DataArgs;
use super::output;
use super::pipeline::settings;
use super::resume::{self, ResumeArgs, names};
use crate::Result;
use crate::decoder::{PretrainConfig, PretrainReport, pretrain};
use crate::device::{Device, profile};
use crate::report::RunRecord;
use crate::run_folder::{Fingerprint, Opening};
use crate::tensor::checkpoint::Checkpoints;
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;

/// Settings of a decoder trained from scratch; flags that are given stand over a configuration's `[pretrain]`.
#[derive(Debug, Clone, Default, Args)]
pub struct PretrainArgs {
    /// Width of the hidden rows [default: 128]
    #[arg(long, value_name = "N")]
    pub hidden: Option<usize>,
    /// Layers [default: 4]
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// Query heads [default: 4]
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Key and value heads [default: 2]
    #[arg(long, value_name = "N")]
    pub kv_heads: Option<usize>,
    /// Width of the feed-forward block [default: 344]
    #[arg(long, value_name = "N")]
    pub ffn: Option<usize>,
    /// Most tokens of the vocabulary [default: 2048]
    #[arg(long, value_name = "N")]
    pub vocab: Option<usize>,
    /// Context of the decoder in tokens [default: 512]
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// Passes over the texts [default: 10]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Tokens of one step [default: 4096]
    #[arg(long, value_name = "N")]
    pub batch_tokens: Option<usize>,
    /// Peak learning rate [default: 0.003]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
}

impl PretrainArgs {
    /// `config` with the flags that are given put over it.
    pub fn over(&self, config: PretrainConfig) -> PretrainConfig {
        PretrainConfig {
            hidden: self.hidden.unwrap_or(config.hidden),
            layers: self.layers.unwrap_or(config.layers),
            heads: self.heads.unwrap_or(config.heads),
            kv_heads: self.kv_heads.unwrap_or(config.kv_heads),
            ffn: self.ffn.unwrap_or(config.ffn),
            vocab: self.vocab.unwrap_or(config.vocab),
            context: self.context.unwrap_or(config.context),
            epochs: self.epochs.unwrap_or(config.epochs),
            batch_tokens: self.batch_tokens.unwrap_or(config.batch_tokens),
            lr: self.lr.unwrap_or(config.lr),
            ..config
        }
    }
}

/// `lea pretrain`.
#[derive(Debug, Args)]
pub struct PretrainCommand {
    /// The data set
    #[command(flatten)]
    pub data: DataArgs,
    /// Settings as TOML, sections data and pretrain; flags stand over them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Settings
    #[command(flatten)]
    pub pretrain: PretrainArgs,
    /// Folder for config.json, model.safetensors, tokenizer.json, metrics.jsonl and run.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the files of an earlier decoder in that folder
    #[arg(long)]
    pub overwrite: bool,
    /// Going on after an interruption
    #[command(flatten)]
    pub resume: ResumeArgs,
    /// Seed of weights and batches [default: the configuration's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

const OUTPUTS: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "metrics.jsonl",
    "run.json",
];

/// Runs `lea pretrain`.
pub fn run(args: PretrainCommand) -> Result<()> {
    let configured = args.config.as_deref().map(RunConfig::load).transpose()?.unwrap_or_default();
    let seed = args.seed.unwrap_or(configured.seed);
    let config = args.pretrain.over(configured.pretrain);
    config.check()?;
    let reading = profile::range(|| "read".into());
    let data = args.data.load(configured.data)?;
    drop(reading);
    let settings = settings(&config)?;
    let fingerprint = Fingerprint::new("pretrain")
        .with("settings", &settings)?
        .with("seed", seed)?
        .with("data", data.hash())?
        .with("device", args.device.arithmetic())?;
    let opening = Opening {
        inputs: vec![args.data.data.clone()],
        outputs: names(&OUTPUTS),
        ..args.resume.opening(&args.out, args.overwrite, fingerprint)?
    };
    let Some(folder) = resume::open(opening)? else { return Ok(()) };
    let mut record = RunRecord::start(&args.device, settings, vec![seed]);
    record.data_hash = Some(data.hash().to_string());
    let start = Instant::now();
    let mut log = folder.log("metrics.jsonl")?;
    let mut keep = Checkpoints::new(&folder, "pretrain", &args.device, 0)?;
    let texts: Vec<&str> = data.dataset.items.iter().map(|item| item.text.as_str()).collect();
    let training = profile::range(|| "pretrain".into());
    let (decoder, tokenizer, report) = pretrain(&texts, &config, seed, &args.device, &mut log, &mut keep)?;
    drop(training);
    let _writing = profile::range(|| "write".into());
    folder.check_still_there()?;
    decoder.save(&args.out)?;
    tokenizer.save(&args.out)?;
    record.add_stage("pretrain", start.elapsed().as_secs_f64());
    log.write(&serde_json::json!({"step": "pretrain", "report": report}))?;
    record.write(&args.out.join("run.json"))?;
    folder.finish()?;
    print_report(&report)?;
    output::line(format_args!("written to {}", args.out.display()))
}

fn print_report(report: &PretrainReport) -> Result<()> {
    let losses = format!("{:.3} before training, {:.3} after", report.first_loss, report.held_out_loss);
    let rows = [
        ("texts", format!("{} of {} tokens together", report.texts, report.tokens)),
        ("weights", report.parameters.to_string()),
        ("held-out loss", format!("{losses} (nats a token, epoch {})", report.epoch)),
    ];
    rows.iter().try_for_each(|(name, value)| output::line(format_args!("{name:<16} {value}")))
}
