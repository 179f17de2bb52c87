//! `lea train`: one recommender.

use super::config::RunConfig;
use super::data::DataArgs;
use super::output;
use super::pipeline::given_labels::GivenLabels;
use super::pipeline::recommenders::learning_curves;
use super::pipeline::settings;
use super::pipeline::summary::step_report;
use super::resume::{self, ResumeArgs, names};
use super::split::SplitArgs;
use crate::data::{Part, check_unmet};
use crate::device::{Device, profile};
use crate::files::FileHash;
use crate::rec::{
    EncoderKind, EvalSteps, Framework, Labels, NextState, RecConfig, RewardScale, Variant, evaluate, saved,
    train,
};
use crate::report::{Report, RunRecord};
use crate::run_folder::{Fingerprint, Opening};
use crate::tensor::checkpoint::Checkpoints;
use crate::{Error, Result};
use clap::Args;
use std::path::PathBuf;

/// Settings of a recommender; flags that are given stand over a configuration's `[rec]`.
#[derive(Debug, Clone, Default, Args)]
pub struct RecArgs {
    /// Encoder [default: sasrec]
    #[arg(long, value_enum)]
    pub encoder: Option<EncoderKind>,
    /// Framework [default: snqn]
    #[arg(long, value_enum)]
    pub framework: Option<Framework>,
    /// What is taken from the LE: sets state, reward and augment [default: base]
    #[arg(long, value_enum)]
    pub variant: Option<Variant>,
    /// Whether the Q head reads the LE's state
    #[arg(long, value_name = "BOOL")]
    pub state: Option<bool>,
    /// Whether the Q-loss uses the LE's rewards
    #[arg(long, value_name = "BOOL")]
    pub reward: Option<bool>,
    /// Whether augmented actions are trained too; so they are where --alpha or --beta is given
    #[arg(long, value_name = "BOOL")]
    pub augment: Option<bool>,
    /// Weight of the cross-entropy of augmented actions [default: 0.1]
    #[arg(long, value_name = "A")]
    pub alpha: Option<f64>,
    /// Weight of the Q-loss of augmented actions [default: 0.1]
    #[arg(long, value_name = "B")]
    pub beta: Option<f64>,
    /// What is done to the LE's rewards [default: standardised]
    #[arg(long, value_enum)]
    pub reward_scale: Option<RewardScale>,
    /// State that follows an augmented action [default: observed]
    #[arg(long, value_enum)]
    pub augmented_next: Option<NextState>,
    /// Items that the encoder reads at most [default: 10]
    #[arg(long, value_name = "H")]
    pub history: Option<usize>,
    /// Width of embeddings and hidden vectors [default: 64]
    #[arg(long, value_name = "N")]
    pub width: Option<usize>,
    /// Attention blocks or recurrent layers [default: 1]
    #[arg(long, value_name = "N")]
    pub blocks: Option<usize>,
    /// Attention heads; sasrec only [default: 1]
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Whether the supervised head is the item embedding itself [default: true]
    #[arg(long, value_name = "BOOL")]
    pub tied: Option<bool>,
    /// Dropout probability [default: 0.5]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,
    /// Negative actions a step [default: 10]
    #[arg(long, value_name = "K")]
    pub negatives: Option<usize>,
    /// Weight of the mean Q-loss of the negatives [default: 1]
    #[arg(long, value_name = "W")]
    pub neg_weight: Option<f64>,
    /// Discount of the next state's value [default: 0.5]
    #[arg(long, value_name = "G")]
    pub discount: Option<f64>,
    /// Largest advantage of sa2c [default: 10]
    #[arg(long, value_name = "A")]
    pub advantage_clip: Option<f64>,
    /// Optimiser steps of sa2c before the advantage counts [default: 2000]
    #[arg(long, value_name = "N")]
    pub advantage_warmup: Option<u64>,
    /// Steps of the data in one optimiser step [default: 256]
    #[arg(long, value_name = "N")]
    pub batch_steps: Option<usize>,
    /// Epochs at most: passes over the data, with a Q head two an epoch [default: 100]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Epochs without a better validation NDCG@10 before training stops [default: 5]
    #[arg(long, value_name = "N")]
    pub patience: Option<usize>,
    /// Learning rate [default: 0.001]
    #[arg(long, value_name = "R")]
    pub learning_rate: Option<f64>,
    /// Decoupled weight decay [default: 0]
    #[arg(long, value_name = "W")]
    pub weight_decay: Option<f64>,
    /// Norm to which gradients are clipped; 0 for no clipping [default: 0]
    #[arg(long, value_name = "N")]
    pub clip_norm: Option<f64>,
    /// Seed of weights, batches, dropout and negatives [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl RecArgs {
    /// `config` with the flags that are given put over it: the variant first, then its single switches.
    pub fn over(&self, config: RecConfig) -> RecConfig {
        let c = RecConfig {
            encoder: self.encoder.unwrap_or(config.encoder),
            framework: self.framework.unwrap_or(config.framework),
            ..config
        };
        let c = match self.variant {
            Some(variant) => c.with_variant(variant),
            None => c,
        };
        // A weight that is asked for alone asks for its loss, and for no other.
        let off = self.augment.is_none() && !c.augment;
        let weights = off && (self.alpha.is_some() || self.beta.is_some());
        let c = match weights {
            true => RecConfig { augment: true, alpha: 0.0, beta: 0.0, ..c },
            false => c,
        };
        RecConfig {
            augment: self.augment.unwrap_or(c.augment),
            state: self.state.unwrap_or(c.state),
            reward: self.reward.unwrap_or(c.reward),
            alpha: self.alpha.unwrap_or(c.alpha),
            beta: self.beta.unwrap_or(c.beta),
            reward_scale: self.reward_scale.unwrap_or(c.reward_scale),
            augmented_next: self.augmented_next.unwrap_or(c.augmented_next),
            history: self.history.unwrap_or(c.history),
            width: self.width.unwrap_or(c.width),
            blocks: self.blocks.unwrap_or(c.blocks),
            heads: self.heads.unwrap_or(c.heads),
            tied: self.tied.unwrap_or(c.tied),
            dropout: self.dropout.unwrap_or(c.dropout),
            negatives: self.negatives.unwrap_or(c.negatives),
            negative_weight: self.neg_weight.unwrap_or(c.negative_weight),
            discount: self.discount.unwrap_or(c.discount),
            advantage_clip: self.advantage_clip.unwrap_or(c.advantage_clip),
            advantage_warmup: self.advantage_warmup.unwrap_or(c.advantage_warmup),
            batch_steps: self.batch_steps.unwrap_or(c.batch_steps),
            epochs: self.epochs.unwrap_or(c.epochs),
            patience: self.patience.unwrap_or(c.patience),
            learning_rate: self.learning_rate.unwrap_or(c.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(c.weight_decay),
            clip_norm: self.clip_norm.unwrap_or(c.clip_norm),
            seed: self.seed.unwrap_or(c.seed),
            ..c
        }
    }
}

/// `lea train`.
#[derive(Debug, Args)]
pub struct TrainCommand {
    /// The data set
    #[command(flatten)]
    pub data: DataArgs,
    /// Its split
    #[command(flatten)]
    pub split: SplitArgs,
    /// Settings
    #[command(flatten)]
    pub rec: RecArgs,
    /// Configuration whose sections data, split, rec and encoder are taken; flags stand over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder that `lea label` wrote; its split is used unless another is given
    #[arg(long, value_name = "DIR")]
    pub labels: Option<PathBuf>,
    /// Folder for recommender.safetensors, metrics.jsonl, report.json and run.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the files of an earlier training in that folder
    #[arg(long)]
    pub overwrite: bool,
    /// Going on after an interruption
    #[command(flatten)]
    pub resume: ResumeArgs,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea train`.
pub fn run(args: TrainCommand) -> Result<()> {
    let run = args.config.as_deref().map(RunConfig::load).transpose()?.unwrap_or_default();
    let base = match args.rec.encoder {
        Some(encoder) => run.rec_of(encoder)?,
        None => run.rec_of(run.rec.encoder)?,
    };
    let config = args.rec.over(base);
    config.validate()?;
    if args.rec.beta.is_some_and(|beta| beta > 0.0) && !config.framework.has_q() {
        let problem = "--beta weighs a Q-loss, and a supervised recommender has none";
        return Err(Error::setting(problem, "leave it out, or choose sqn, snqn or sa2c"));
    }
    let reading = profile::range(|| "read".into());
    let data = args.data.load(run.data.clone())?.dataset;
    check_unmet(&data, data.items.len(), config.negatives_used())?;
    if args.labels.is_none() && config.needs_labels() {
        return Err(Error::setting(
            format!("variant {} needs the LE's labels", config.variant_name()),
            "name the folder that `lea label` wrote with --labels, or train --variant base",
        ));
    }
    let (split, labels) = match &args.labels {
        Some(dir) => {
            let other = args.split.is_given().then(|| args.split.split(&data, &run.split)).transpose()?;
            let given = GivenLabels::load(dir, &data, other)?;
            (given.split, Some(Labels::from(given.set)))
        }
        None => (args.split.split(&data, &run.split)?, None),
    };
    drop(reading);
    let manifest = args.labels.as_ref().map(|dir| FileHash::of(&dir.join("manifest.json")));
    let labels_hash = manifest.transpose()?.map(|manifest| manifest.sha256);
    let fingerprint = Fingerprint::new("train")
        .with("settings", &config)?
        .with("data", data.interactions_hash())?
        .with("split", split.hash())?
        .with("labels", labels_hash)?
        .with("device", args.device.arithmetic())?;
    let opening = Opening {
        inputs: std::iter::once(args.data.data.clone()).chain(args.labels.clone()).collect(),
        outputs: names(&[
            "recommender.safetensors",
            "split.json",
            "metrics.jsonl",
            "run.json",
            "report.json",
        ]),
        ..args.resume.opening(&args.out, args.overwrite, fingerprint)?
    };
    let Some(folder) = resume::open(opening)? else { return Ok(()) };
    let mut record = RunRecord::start(&args.device, settings(&config)?, vec![config.seed, split.seed]);
    record.data_hash = Some(data.hash());
    let mut log = folder.log("metrics.jsonl")?;
    let mut keep = Checkpoints::new(&folder, "train", &args.device, 0)?;
    let training = profile::range(|| "train".into());
    let trained = train(&config, (&data, &split), labels.as_ref(), &args.device, &mut log, &mut keep)?;
    drop(training);
    let writing = profile::range(|| "write".into());
    folder.check_still_there()?;
    let trained_on = saved::TrainedOn::of(&data, &split);
    saved::save(&args.out.join("recommender.safetensors"), &trained.network, &trained_on)?;
    split.save(&args.out.join("split.json"))?;
    record.add_stage("train", trained.seconds);
    record.write(&args.out.join("run.json"))?;
    drop(writing);
    let steps = EvalSteps::new(&data, &split, Part::Test, config.history);
    let testing = profile::range(|| "test".into());
    let ranking = evaluate(&trained.network, &steps)?;
    drop(testing);
    let name = config.table_name();
    let curves = learning_curves(&[(name.join(" "), trained.curve.clone())]);
    let metrics = super::eval::table(&data.name, &split, &[(name, config.seed, ranking)])?;
    let report = Report { metrics: Some(metrics.clone()), curves, ..step_report(&data.name, &record) };
    report.write_json(&args.out.join("report.json"))?;
    folder.finish()?;
    super::eval::print(&metrics)?;
    let (best, epochs) = (trained.best_epoch, trained.curve.len());
    output::line(format_args!("best of {epochs} epochs: {best}; written to {}", args.out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_given_alone_asks_for_its_loss_and_zero_stays_zero() {
        let used = |args: RecArgs| {
            let config = args.over(RecConfig::default());
            (config.variant_name(), config.alpha_used(), config.beta_used())
        };
        let lea = Some(Variant::Lea);
        assert_eq!(used(RecArgs::default()), ("base".into(), 0.0, 0.0));
        assert_eq!(used(RecArgs { alpha: Some(0.3), ..RecArgs::default() }), ("alpha".into(), 0.3, 0.0));
        assert_eq!(used(RecArgs { variant: lea, ..RecArgs::default() }), ("lea".into(), 0.1, 0.1));
        let without_alpha = RecArgs { variant: lea, alpha: Some(0.0), ..RecArgs::default() };
        assert_eq!(used(without_alpha), ("state+reward+beta".into(), 0.0, 0.1));
        let state = RecArgs { variant: Some(Variant::State), beta: Some(0.3), ..RecArgs::default() };
        assert_eq!(used(state), ("state+beta".into(), 0.0, 0.3));
        let both = RecArgs { augment: Some(true), alpha: Some(0.3), ..RecArgs::default() };
        assert_eq!(used(both), ("alpha+beta".into(), 0.3, 0.1));
    }
}
