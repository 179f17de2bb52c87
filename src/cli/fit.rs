//! `lea fit`: step 2, the LE.

use super::items::LeArgs;
use super::output;
use super::pipeline::base::OpenBase;
use super::pipeline::environment::{LE_FILES, LeJob};
use super::pipeline::summary::{add_quality, fit_curves, print_quality, step_report};
use super::pipeline::{settings, timed};
use super::resume::{self, ResumeArgs, names};
use super::split::SplitArgs;
use crate::Result;
use crate::data::check_unmet;
use crate::decoder::LoraConfig;
use crate::device::{Device, profile};
use crate::files::FileHash;
use crate::le::item_file::{ITEM_TOKENS, read_item_tokens};
use crate::le::{FitConfig, LeData, StateLoss, peft};
use crate::report::RunRecord;
use crate::run_folder::{Fingerprint, Opening};
use crate::tensor::checkpoint::Checkpoints;
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
    /// PEFT folder of LoRA adapters with a score head, to start from instead of fresh ones; with --epochs 0 they are
    /// taken as they are. What it says of the adapters stands over the configuration
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["lora_targets", "lora_rank", "lora_alpha", "lora_dropout"]
    )]
    pub adapter: Option<PathBuf>,
    /// Share of the training users that train the LE, in (0, 1]
    #[arg(long, value_name = "SHARE")]
    pub le_share: Option<f64>,
    /// Items of a history that the LE reads at most; longer ones are cut into segments
    #[arg(long, value_name = "H")]
    pub history: Option<usize>,
    /// Text before the history, shared by all users
    #[arg(long, value_name = "TEXT")]
    pub root: Option<String>,
    /// Text between the history and an action
    #[arg(long, value_name = "TEXT")]
    pub stem: Option<String>,
    /// Text after an action; the reward is read at its end
    #[arg(long, value_name = "TEXT")]
    pub closing: Option<String>,
    /// Settings of the training
    #[command(flatten)]
    pub fit: FitArgs,
    /// Going on after an interruption
    #[command(flatten)]
    pub resume: ResumeArgs,
}

/// Settings of the LE's training; flags that are given stand over a configuration's `[le.fit]`.
#[derive(Debug, Clone, Default, Args)]
pub struct FitArgs {
    /// Passes over the LE's users [default: 4]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Forest rows a step [default: 1024]
    #[arg(long, value_name = "N")]
    pub batch_tokens: Option<usize>,
    /// Learning rate of adapters and head [default: 0.002]
    #[arg(long, value_name = "R")]
    pub learning_rate: Option<f64>,
    /// Learning rate of the item tokens; 0 freezes them [default: 0.002]
    #[arg(long, value_name = "R")]
    pub item_learning_rate: Option<f64>,
    /// Decoupled weight decay [default: 0]
    #[arg(long, value_name = "W")]
    pub weight_decay: Option<f64>,
    /// Norm to which gradients are clipped; 0 for no clipping [default: 1]
    #[arg(long, value_name = "N")]
    pub clip_norm: Option<f64>,
    /// Form of the state loss [default: infonce]
    #[arg(long, value_enum)]
    pub state_loss: Option<StateLoss>,
    /// Weight of the state loss [default: 1]
    #[arg(long, value_name = "W")]
    pub state_weight: Option<f64>,
    /// Weight of the reward loss [default: 1]
    #[arg(long, value_name = "W")]
    pub reward_weight: Option<f64>,
    /// Temperature of the similarities in the state loss [default: 0.1]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Uniform negatives of a batch's infonce; as many as the catalogue has mean all of it [default: 8192]
    #[arg(long, value_name = "N")]
    pub state_negatives: Option<usize>,
    /// Whether the other positives of the batch are negatives of infonce too [default: false]
    #[arg(long, value_name = "BOOL")]
    pub in_batch: Option<bool>,
    /// Margin of the reward loss [default: 0]
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// Negatives of the reward loss a step [default: 4]
    #[arg(long, value_name = "K")]
    pub negatives: Option<usize>,
    /// Share of them drawn by popularity [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub popularity_share: Option<f64>,
    /// Share of them drawn from the candidates, the others being uniform [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    pub hard_share: Option<f64>,
    /// First epoch, counted from 1, with negatives from the candidates [default: 2]
    #[arg(long, value_name = "N")]
    pub hard_from: Option<usize>,
    /// Candidates to draw them from [default: 50]
    #[arg(long, value_name = "N")]
    pub hard_candidates: Option<usize>,
    /// Projections with an adapter, separated by commas [default: q_proj,v_proj]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub lora_targets: Option<Vec<String>>,
    /// Rank of the adapters [default: 8]
    #[arg(long, value_name = "R")]
    pub lora_rank: Option<usize>,
    /// Scale of the adapters times their rank [default: 16]
    #[arg(long, value_name = "A")]
    pub lora_alpha: Option<f64>,
    /// Probability that an input of an adapter is dropped [default: 0]
    #[arg(long, value_name = "P")]
    pub lora_dropout: Option<f64>,
    /// Whether layers run again in the backward pass, for less memory [default: false]
    #[arg(long, value_name = "BOOL")]
    pub checkpoint: Option<bool>,
}

impl FitArgs {
    /// `config` with the flags that are given put over it.
    pub fn over(self, config: FitConfig) -> FitConfig {
        let lora = config.lora;
        FitConfig {
            lora: LoraConfig {
                targets: self.lora_targets.unwrap_or(lora.targets),
                rank: self.lora_rank.unwrap_or(lora.rank),
                alpha: self.lora_alpha.unwrap_or(lora.alpha),
                dropout: self.lora_dropout.unwrap_or(lora.dropout),
                ..lora
            },
            epochs: self.epochs.unwrap_or(config.epochs),
            batch_tokens: self.batch_tokens.unwrap_or(config.batch_tokens),
            learning_rate: self.learning_rate.unwrap_or(config.learning_rate),
            item_learning_rate: self.item_learning_rate.unwrap_or(config.item_learning_rate),
            weight_decay: self.weight_decay.unwrap_or(config.weight_decay),
            clip_norm: self.clip_norm.unwrap_or(config.clip_norm),
            state_loss: self.state_loss.unwrap_or(config.state_loss),
            state_weight: self.state_weight.unwrap_or(config.state_weight),
            reward_weight: self.reward_weight.unwrap_or(config.reward_weight),
            temperature: self.temperature.unwrap_or(config.temperature),
            state_negatives: self.state_negatives.unwrap_or(config.state_negatives),
            in_batch: self.in_batch.unwrap_or(config.in_batch),
            margin: self.margin.unwrap_or(config.margin),
            negatives: self.negatives.unwrap_or(config.negatives),
            popularity_share: self.popularity_share.unwrap_or(config.popularity_share),
            hard_share: self.hard_share.unwrap_or(config.hard_share),
            hard_from: self.hard_from.unwrap_or(config.hard_from),
            hard_candidates: self.hard_candidates.unwrap_or(config.hard_candidates),
            checkpoint: self.checkpoint.unwrap_or(config.checkpoint),
            ..config
        }
    }
}

/// Written beside the LE.
const STEP_FILES: [&str; 3] = ["metrics.jsonl", "run.json", "report.json"];

/// Runs `lea fit`.
pub fn run(args: FitCommand) -> Result<()> {
    let mut config = args.le.configuration()?;
    config.le.fit = args.fit.over(config.le.fit);
    config.le.history = args.history.unwrap_or(config.le.history);
    let prompt = &mut config.le.prompt;
    for (text, given) in
        [(&mut prompt.root, args.root), (&mut prompt.stem, args.stem), (&mut prompt.closing, args.closing)]
    {
        *text = given.unwrap_or_else(|| std::mem::take(text));
    }
    config.split.le_share = args.le_share.unwrap_or(config.split.le_share);
    config.le.check()?;
    let reading = profile::range(|| "read".into());
    let opened = OpenBase::new(&args.le.decoder)?;
    let read = args.le.data.load(config.data.clone())?;
    let dataset = &read.dataset;
    let split = args.split.split(dataset, &config.split)?;
    check_unmet(dataset, dataset.items.len(), config.le.most_negatives())?;
    let base = opened.load(&args.le.device)?;
    let adapted = args.adapter.as_ref().map(|dir| peft::read_adapter(dir, &base.decoder)).transpose()?;
    if let Some(adapted) = &adapted {
        config.le.fit.lora = adapted.lora.clone();
    }
    let data = LeData::new(dataset, &split);
    let job = LeJob { base: &base, data, data_hash: read.hash(), settings: &config.le, seed: config.seed };
    let shape = [dataset.items.len(), base.decoder.config.hidden_size];
    let (device, dtype) = (base.decoder.device(), base.decoder.dtype());
    let items = read_item_tokens(
        &args.item_tokens.join(ITEM_TOKENS),
        shape,
        &base.item_origin(dataset),
        &device,
        dtype,
    )?;
    let tokens = args.item_tokens.join(ITEM_TOKENS);
    drop(reading);
    let adapter = args.adapter.as_ref().map(|dir| FileHash::of(&dir.join("adapter_model.safetensors")));
    let fingerprint = Fingerprint::new("fit")
        .with("settings", &config.le)?
        .with("seed", config.seed)?
        .with("data", read.hash())?
        .with("split", split.hash())?
        .with("decoder", base.describe()?)?
        .with("item_tokens", FileHash::of(&tokens)?.sha256)?
        .with("adapter", adapter.transpose()?.map(|adapter| adapter.sha256))?
        .with("device", args.le.device.arithmetic())?;
    let opening = Opening {
        inputs: [args.le.data.data.clone(), args.le.decoder.clone(), tokens]
            .into_iter()
            .chain(args.adapter.clone())
            .collect(),
        outputs: LE_FILES.map(String::from).into_iter().chain(names(&STEP_FILES)).collect(),
        ..args.resume.opening(&args.le.out, args.le.overwrite, fingerprint)?
    };
    let Some(folder) = resume::open(opening)? else { return Ok(()) };
    let mut record = RunRecord::start(&args.le.device, settings(&config)?, vec![config.seed, split.seed]);
    record.data_hash = Some(read.hash().to_string());
    let mut log = folder.log("metrics.jsonl")?;
    let mut keep = Checkpoints::new(&folder, "fit", &args.le.device, 0)?;
    let mut judging = Checkpoints::new(&folder, "judge", &Device::Cpu, 0)?;
    let env = match adapted {
        Some(adapted) => job.assemble_on(&items, adapted.decoder, adapted.head)?,
        None => job.assemble(&items)?,
    };
    let (epochs, quality) = timed(&mut record, "fit", || job.fit(&env, &mut log, (&mut keep, &mut judging)))?;
    let _writing = profile::range(|| "write".into());
    folder.check_still_there()?;
    job.save(&env, &epochs, &quality, &args.le.out)?;
    record.write(&args.le.out.join("run.json"))?;
    let mut report = step_report(&dataset.name, &record);
    add_quality(&mut report, &quality, &split, &config.le);
    report.curves.extend(fit_curves(&epochs));
    report.write_json(&args.le.out.join("report.json"))?;
    folder.finish()?;
    print_quality(&quality, &split, &config.le)?;
    output::line(format_args!("written to {}", args.le.out.display()))
}
