//! `lea label`: step 3, the labelling pass.

use super::config::RunConfig;
use super::items::LeArgs;
use super::output;
use super::pipeline::base::OpenBase;
use super::pipeline::environment::LeJob;
use super::pipeline::summary::{add_quality, print_quality, savings, step_report};
use super::pipeline::{settings, timed};
use super::resume::{self, ResumeArgs};
use crate::Result;
use crate::data::{Split, check_unmet};
use crate::device::{Device, profile};
use crate::le::{
    Augment, Environment, LabelHeader, LabelPart, LeConfig, LeData, LeRecord, MANIFEST, OwnFiles, Quality,
    SPLIT, Shard, TokenCount, check_neighbours, judge, peft,
};
use crate::progress::MetricsLog;
use crate::report::RunRecord;
use crate::run_folder::{Fingerprint, Opening, RunFolder};
use crate::tensor::checkpoint::Checkpoints;
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
    /// Forest rows a pack, 0 for what suits the device (8192, with CUDA 32768); no label depends on it
    #[arg(long, value_name = "N")]
    pub pack_tokens: Option<usize>,
    /// Files to cut the users into; no label depends on it [default: what le.label.users_per_file says, one a shard at
    /// least]
    #[arg(long, value_name = "N")]
    pub files: Option<usize>,
    /// Going on after an interruption: what is labelled is kept pack by pack, whatever the time between checkpoints,
    /// which are of judging the LE before it
    #[command(flatten)]
    pub resume: ResumeArgs,
    /// Label only this share of the users, as in 3/16: the third of sixteen. All shards may write to one folder, at the
    /// same time and from several machines; lea labels merge finishes it
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

/// Runs `lea label`.
pub fn run(args: LabelCommand) -> Result<()> {
    let common = &args.common;
    let config = common.configuration()?;
    let reading = profile::range(|| "read".into());
    let opened = OpenBase::new(&common.decoder)?;
    let read = common.data.open(config.data.clone())?;
    let (dataset, users) = (read.items(), read.users());
    let base = opened.load_for_labels(&common.device)?;
    let loaded = peft::load_on(&args.le, &base.decoder, &base.identity)?;
    loaded.record.check_items(dataset)?;
    let split = Split::read(&args.le.join(SPLIT), &users.interactions_hash(), users.count())?;
    let le = args.settings(&loaded.record.settings, &config)?;
    check_unmet(users, dataset.items.len(), le.most_negatives())?;
    let part = LabelPart::new(users.count(), &le.label, args.files, args.shard)?;
    let data = LeData { dataset, users, split: &split };
    let seed = common.seed.unwrap_or(loaded.record.seed);
    let job = LeJob { base: &base, data, data_hash: read.hash(), settings: &le, seed };
    let header = job.label_header(&loaded.env, &loaded.hash)?;
    drop(reading);
    let Some(folder) = args.open(&part, &header)? else { return Ok(()) };
    let mut record = RunRecord::start(&common.device, settings(&le)?, vec![seed]);
    record.data_hash = Some(header.data_hash.clone());
    // The record of the first file tells the quality, for the whole labelling.
    let quality = match part.own().contains(&0) {
        true => Some(timed(&mut record, "judge", || {
            args.judged(&folder, (&loaded.env, &loaded.record), (data, &header), (&le, seed))
        })?),
        false => None,
    };
    quality.iter().try_for_each(|quality| print_quality(quality, &split, &le))?;
    let found = serde_json::json!(quality);
    // Written anew by a resumed run too: it has one line a file.
    let mut log = MetricsLog::create(&common.out.join(args.own_name("metrics.jsonl")))?;
    let target = (common.out.as_path(), part);
    let tokens = timed(&mut record, "label", || job.label(header, &loaded.env, &found, target, &mut log))?;
    let _writing = profile::range(|| "write".into());
    folder.check_still_there()?;
    record.write(&common.out.join(args.own_name("run.json")))?;
    let seconds = record.stages.last().map_or(0.0, |stage| stage.seconds);
    let mut report = step_report(&dataset.name, &record);
    quality.iter().for_each(|quality| add_quality(&mut report, quality, &split, &le));
    report.forest = Some(savings(&tokens, seconds, None));
    report.write_json(&common.out.join(args.own_name("report.json")))?;
    folder.finish()?;
    args.print(&tokens, seconds)
}

impl LabelCommand {
    /// Settings of the LE `of`, with those of labelling from the configuration where one is given, and the flags over
    /// them.
    fn settings(&self, of: &LeConfig, config: &RunConfig) -> Result<LeConfig> {
        let mut le = of.clone();
        if self.common.config.is_some() {
            le.label = config.le.label.clone();
        }
        let label = &mut le.label;
        label.negatives = self.negatives.unwrap_or(label.negatives);
        label.candidates = self.candidates.unwrap_or(label.candidates);
        label.augment = self.augment.unwrap_or(label.augment);
        label.augmented_states = self.augmented_states.unwrap_or(label.augmented_states);
        label.pack_tokens = self.pack_tokens.unwrap_or(label.pack_tokens);
        le.check()?;
        Ok(le)
    }

    /// Locks the output folder, or this shard's part of it; `None` where the run is finished already.
    fn open(&self, part: &LabelPart, header: &LabelHeader) -> Result<Option<RunFolder>> {
        if self.shard.is_some() {
            // Before anything is left in the folder of the others.
            let own = match (self.resume.resume, self.common.overwrite) {
                (true, _) => OwnFiles::Mended,
                (_, true) => OwnFiles::Replaced,
                _ => OwnFiles::Kept,
            };
            check_neighbours(&self.common.out, header, part, own)?;
        }
        let mut outputs =
            Vec::from(["metrics.jsonl", "run.json", "report.json"].map(|name| self.own_name(name)));
        let mut shared = Vec::new();
        match self.shard {
            None => {
                outputs.extend([MANIFEST, SPLIT].map(String::from));
                outputs.extend(LabelPart::any_file_names());
            }
            Some(_) => {
                outputs.extend(part.own().flat_map(|file| part.file_names(file)));
                shared.push(SPLIT.into());
            }
        }
        let fingerprint = Fingerprint::new("label")
            .with("labelling", header.deciding())?
            .with("files", part.files())?
            .with("shard", self.shard.map(|shard| shard.to_string()))?
            .with("device", self.common.device.arithmetic())?;
        let name = self.shard.map(|_| self.own_name("").trim_end_matches('-').to_string());
        let opening = Opening {
            part: name.as_deref(),
            inputs: vec![self.common.data.data.clone(), self.common.decoder.clone(), self.le.clone()],
            outputs,
            shared,
            ..self.resume.opening(&self.common.out, self.common.overwrite, fingerprint)?
        };
        let folder = resume::open(opening)?;
        if let (Some(folder), Some(_)) = (folder.as_ref().filter(|folder| !folder.resumed()), self.shard) {
            // What was merged of earlier labels is not of these.
            folder.remove(&[MANIFEST])?;
        }
        Ok(folder)
    }

    /// Quality of the LE on held-out users. Where nothing differs from its training, that has told it already; and a
    /// resumed run that had judged it knows. To judge anew takes a pass over all held-out users.
    fn judged(
        &self,
        folder: &RunFolder,
        (env, record): (&Environment, &LeRecord),
        (data, header): (LeData, &LabelHeader),
        (le, seed): (&LeConfig, u64),
    ) -> Result<Quality> {
        let deciding = |le: &LeConfig| LeConfig { label: le.label.deciding(), ..le.clone() };
        let same = deciding(&record.settings) == deciding(le)
            && (record.seed, &record.split_hash, &record.data_hash)
                == (seed, &header.split_hash, &header.data_hash);
        let told = serde_json::from_value(record.training["quality"].clone());
        if let (true, Ok(quality)) = (same, told) {
            return Ok(quality);
        }
        if let Some((quality, positive_rewards, negative_rewards)) = folder.stage("judge") {
            return Ok(Quality { positive_rewards, negative_rewards, ..quality });
        }
        let mut keep = Checkpoints::new(folder, "judge", &Device::Cpu, 0)?;
        let quality = judge(env, data, le, seed, &mut keep)?;
        // The rewards, which the report draws, are no part of a stored quality.
        folder.finish_stage("judge", &(&quality, &quality.positive_rewards, &quality.negative_rewards))?;
        keep.discard()?;
        Ok(quality)
    }

    /// Name of a file of this run, apart from those of other shards.
    fn own_name(&self, name: &str) -> String {
        match self.shard {
            None => name.into(),
            Some(Shard { number, of }) => format!("shard-{number:05}-of-{of:05}-{name}"),
        }
    }

    fn print(&self, tokens: &TokenCount, seconds: f64) -> Result<()> {
        output::line(format_args!(
            "{} rewards in {seconds:.1} s, {:.0} a second; {:.2} rows a reward, separate prompts need {:.2}",
            tokens.labels,
            tokens.labels as f64 / seconds.max(1e-9),
            tokens.forest as f64 / tokens.labels.max(1) as f64,
            tokens.separate as f64 / tokens.labels.max(1) as f64
        ))?;
        let out = self.common.out.display();
        match self.shard {
            None => output::line(format_args!("written to {out}")),
            Some(shard) => output::line(format_args!(
                "shard {shard} written to {out}; when all {} are: lea labels merge {out}",
                shard.of
            )),
        }
    }
}
