//! `lea label`: step 3, the labelling pass.

use super::items::LeArgs;
use super::output;
use super::pipeline::environment::{Base, LeJob};
use super::pipeline::summary::{add_quality, print_quality, savings, step_report};
use super::pipeline::{settings, timed};
use crate::data::Split;
use crate::device::DType;
use crate::le::{Augment, LeData, judge, peft};
use crate::progress::MetricsLog;
use crate::report::RunRecord;
use crate::{Result, files};
use clap::Args;
use std::path::PathBuf;

/// `lea label`.
#[derive(Debug, Args)]
pub struct LabelCommand {
    /// Data, decoder, output
    #[command(flatten)]
    pub common: LeArgs,
    /// The LE that `lea fit` wrote; its split is used
    #[arg(long, value_name = "DIR")]
    pub le: PathBuf,
    /// Sampled negatives a step
    #[arg(long, value_name = "K")]
    pub negatives: Option<usize>,
    /// Candidates of the augmented action; 0 for none
    #[arg(long, value_name = "N")]
    pub candidates: Option<usize>,
    /// How it is chosen
    #[arg(long, value_enum)]
    pub augment: Option<Augment>,
    /// Keep the LE's state after the augmented action
    #[arg(long, value_name = "BOOL")]
    pub augmented_states: Option<bool>,
    /// Forest rows a pack; no label depends on it
    #[arg(long, value_name = "N")]
    pub pack_tokens: Option<usize>,
}

/// Runs `lea label`.
pub fn run(args: LabelCommand) -> Result<()> {
    let common = &args.common;
    let config = common.configuration()?;
    let dataset = common.data.load(config.data.clone())?.dataset;
    let loaded = peft::load(&args.le, &common.decoder, &common.device, DType::F32)?;
    loaded.record.check_items(&dataset)?;
    let split = Split::load(&args.le.join("split.json"), &dataset)?;
    let given = common.config.is_some();
    let mut le = loaded.record.settings.clone();
    if given {
        le.label = config.le.label.clone();
    }
    let label = &mut le.label;
    label.negatives = args.negatives.unwrap_or(label.negatives);
    label.candidates = args.candidates.unwrap_or(label.candidates);
    label.augment = args.augment.unwrap_or(label.augment);
    label.augmented_states = args.augmented_states.unwrap_or(label.augmented_states);
    label.pack_tokens = args.pack_tokens.unwrap_or(label.pack_tokens);
    le.check()?;
    let base = Base::load(&common.decoder, &common.device)?;
    let data = LeData { dataset: &dataset, split: &split };
    let seed = common.seed.unwrap_or(loaded.record.seed);
    let job = LeJob { base: &base, data, settings: &le, seed };
    if !common.overwrite {
        files::new_folder(&common.out)?;
    }
    let mut record = RunRecord::start(common.device.describe(), settings(&le)?, vec![seed]);
    record.data_hash = Some(dataset.hash());
    let quality = timed(&mut record, "judge", || judge(&loaded.env, data, &le, seed))?;
    print_quality(&quality, &split, &le)?;
    let value = serde_json::json!(quality);
    let mut log = MetricsLog::create(&common.out.join("metrics.jsonl"))?;
    let tokens =
        timed(&mut record, "label", || job.label(&loaded.env, &loaded.hash, value, &common.out, &mut log))?;
    record.write(&common.out.join("run.json"))?;
    let seconds = record.stages.last().map_or(0.0, |s| s.seconds);
    let mut report = step_report(&dataset.name, &record);
    add_quality(&mut report, &quality, &split, &le);
    report.forest = Some(savings(&tokens, seconds, None));
    report.write_json(&common.out.join("report.json"))?;
    output::line(format_args!(
        "{} rewards in {seconds:.1} s, {:.0} a second; {:.2} rows a reward, separate prompts need {:.2}",
        tokens.labels,
        tokens.labels as f64 / seconds.max(1e-9),
        tokens.forest as f64 / tokens.labels.max(1) as f64,
        tokens.separate as f64 / tokens.labels.max(1) as f64
    ))?;
    output::line(format_args!("written to {}", common.out.display()))
}
