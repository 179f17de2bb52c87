//! Decoder, item tokens, LE and labels of a whole run, stage after stage. A run that is resumed takes over the stages that
//! were finished and goes on within the one that was not.

use super::Pipeline;
use super::base::{Base, OpenBase};
use super::environment::{Built, LeJob, texts};
use crate::Result;
use crate::decoder::{PretrainReport, pretrain};
use crate::device::Device;
use crate::le::fit::FitEpoch;
use crate::le::{Environment, LabelPart, LeData, Quality, TokenCount, read_item_tokens, write_item_tokens};
use crate::progress::MetricsLog;
use crate::report::RunRecord;
use crate::run_folder::RunFolder;
use crate::tensor::Tensor;
use crate::tensor::checkpoint::Checkpoints;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Builds the LE of a run, and its labels.
pub(super) struct Builder<'a> {
    pipeline: &'a Pipeline<'a>,
    folder: &'a RunFolder,
    data: LeData<'a>,
    record: &'a mut RunRecord,
    log: MetricsLog,
    /// Length of the log at the end of the last finished stage.
    log_bytes: u64,
}

/// What a finished stage leaves in the record of the run.
#[derive(Serialize, Deserialize)]
struct Finished<T> {
    seconds: f64,
    log_bytes: u64,
    left: T,
}

/// What steps 1 and 2 showed.
#[derive(Serialize, Deserialize)]
struct Fitted {
    /// Nats a text token before and after step 1.
    items_loss: [f64; 2],
    epochs: Vec<FitEpoch>,
    quality: Quality,
    /// Rewards that the quality does not record by itself.
    rewards: [Vec<f32>; 2],
}

/// In their order. They share a log: one that is done again writes its part of it again, and those after it follow.
const STAGES: [&str; 4] = ["pretrain", "items", "fit", "label"];

/// Has the first stage of which a file is gone, and all after it, done again.
fn forget_lost(folder: &RunFolder) -> Result<()> {
    let tokens = folder.checkpoint_path("item-tokens").exists();
    let lost = |stage: &&'static str| {
        // The item tokens go into the LE, and are needed no more when that is there.
        folder.lost_stage(stage) || *stage == "items" && folder.lost_stage("fit") && !tokens
    };
    match STAGES.iter().position(lost) {
        Some(first) => folder.forget_stages(&STAGES[first..]),
        None => Ok(()),
    }
}

impl<'a> Builder<'a> {
    pub fn new(
        pipeline: &'a Pipeline<'a>,
        folder: &'a RunFolder,
        data: LeData<'a>,
        record: &'a mut RunRecord,
    ) -> Result<Self> {
        forget_lost(folder)?;
        let log = folder.log("le.jsonl")?;
        Ok(Builder { pipeline, folder, data, record, log, log_bytes: 0 })
    }

    /// The decoder, and the LE in the folders `le` and `labels` of the run.
    pub fn build(mut self, decoder: Option<Base>) -> Result<(Base, Built)> {
        let base = match decoder {
            Some(base) => base,
            None => self.train_decoder()?,
        };
        let (settings, seed) = (&self.pipeline.config.le, self.pipeline.config.seed);
        let job =
            LeJob { base: &base, data: self.data, data_hash: self.pipeline.loaded.hash(), settings, seed };
        let (env, fitted) = self.fitted(&job)?;
        let (tokens, label_seconds) = self.labels(&job, &env, &fitted.quality)?;
        let separate = job.separate_sample(&env)?;
        let Fitted { items_loss, epochs, quality, .. } = fitted;
        let built = Built { env, items_loss, epochs, quality, tokens, label_seconds, separate };
        Ok((base, built))
    }

    /// What the stage `name` left, where it is finished, and the seconds that it took.
    fn finished<T: DeserializeOwned>(&mut self, name: &str) -> Option<(T, f64)> {
        let Finished { seconds, log_bytes, left } = self.folder.stage(name)?;
        self.record.add_stage(name, seconds);
        self.log_bytes = log_bytes;
        Some((left, seconds))
    }

    /// Records that the stage `name`, begun at `start`, is finished; gives the seconds that it took.
    fn finish(&mut self, name: &str, start: Instant, left: &impl Serialize) -> Result<f64> {
        let seconds = start.elapsed().as_secs_f64();
        self.log.sync()?;
        self.log_bytes = self.log.bytes();
        self.record.add_stage(name, seconds);
        self.folder.finish_stage(name, &Finished { seconds, log_bytes: self.log_bytes, left })?;
        Ok(seconds)
    }

    fn checkpoints(&self, name: &str) -> Result<Checkpoints<'a>> {
        Checkpoints::new(self.folder, name, &self.pipeline.device, self.log_bytes)
    }

    /// A decoder trained from scratch into the folder `decoder`.
    fn train_decoder(&mut self) -> Result<Base> {
        let (config, device) = (self.pipeline.config, &self.pipeline.device);
        let dir = self.pipeline.out.join("decoder");
        if let Some((report, _)) = self.finished::<PretrainReport>("pretrain") {
            let base = OpenBase::new(&dir)?.load(device)?;
            return Ok(base.with_report(report));
        }
        let (start, texts) = (Instant::now(), texts(self.data.dataset));
        let mut keep = self.checkpoints("pretrain")?;
        let (decoder, tokenizer, report) =
            pretrain(&texts, &config.pretrain, config.seed, device, &mut self.log, &mut keep)?;
        self.folder.check_still_there()?;
        decoder.save(&dir)?;
        tokenizer.save(&dir)?;
        self.finish("pretrain", start, &report)?;
        keep.discard()?;
        // A run that is resumed loads it.
        Base::trained(dir, decoder.as_loaded()?, tokenizer, report)
    }

    /// Step 1: item tokens, kept in a file until the LE is written, and their loss before and after.
    fn items(&mut self, job: &LeJob) -> Result<(Tensor, [f64; 2])> {
        let (base, dataset) = (job.base, self.data.dataset);
        let path = self.folder.checkpoint_path("item-tokens");
        let origin = base.item_origin(dataset);
        if path.exists()
            && let Some((loss, _)) = self.finished("items")
        {
            let shape = [dataset.items.len(), base.decoder.config.hidden_size];
            let (device, dtype) = (base.decoder.device(), base.decoder.dtype());
            return Ok((read_item_tokens(&path, shape, &origin, &device, dtype)?, loss));
        }
        let start = Instant::now();
        let mut keep = self.checkpoints("items")?;
        let tokens = base.items(dataset, &job.settings.items, &mut self.log, &mut keep)?;
        self.folder.check_still_there()?;
        write_item_tokens(&path, &tokens.table, &origin)?;
        let loss = [tokens.loss_before, tokens.loss_after];
        self.finish("items", start, &loss)?;
        keep.discard()?;
        Ok((tokens.table, loss))
    }

    /// Steps 1 and 2: the LE, and how its training went.
    fn fitted(&mut self, job: &LeJob) -> Result<(Environment, Fitted)> {
        let dir = self.pipeline.out.join("le");
        if self.folder.stage::<Finished<Fitted>>("fit").is_some() {
            self.finished::<[f64; 2]>("items");
        }
        if let Some((mut fitted, _)) = self.finished::<Fitted>("fit") {
            let [positive, negative] = fitted.rewards.each_mut().map(std::mem::take);
            (fitted.quality.positive_rewards, fitted.quality.negative_rewards) = (positive, negative);
            return Ok((job.load(&dir)?, fitted));
        }
        let (items, items_loss) = self.items(job)?;
        let start = Instant::now();
        let mut keep = self.checkpoints("fit")?;
        let mut judging = Checkpoints::new(self.folder, "judge", &Device::Cpu, 0)?;
        let env = job.assemble(&items)?;
        let (epochs, quality) = job.fit(&env, &mut self.log, (&mut keep, &mut judging))?;
        self.folder.check_still_there()?;
        job.save(&env, &epochs, &quality, &dir)?;
        let rewards = [quality.positive_rewards.clone(), quality.negative_rewards.clone()];
        let fitted = Fitted { items_loss, epochs, quality, rewards };
        self.finish("fit", start, &fitted)?;
        keep.discard()?;
        judging.discard()?;
        self.folder.remove(&["checkpoint-item-tokens.safetensors"])?;
        Ok((env, fitted))
    }

    /// Step 3, and the seconds that it took.
    fn labels(&mut self, job: &LeJob, env: &Environment, quality: &Quality) -> Result<(TokenCount, f64)> {
        if let Some(([labels, forest, separate], seconds)) = self.finished::<[u64; 3]>("label") {
            return Ok((TokenCount { labels, forest, separate }, seconds));
        }
        let start = Instant::now();
        self.log.cut(self.log_bytes)?;
        let header = job.label_header(env, &job.hash(&self.pipeline.out.join("le"))?)?;
        let part = LabelPart::new(self.data.users.count(), &job.settings.label, None, None)?;
        let (dir, quality) = (self.pipeline.out.join("labels"), serde_json::json!(quality));
        let tokens = job.label(header, env, &quality, (&dir, part), &mut self.log)?;
        let seconds = self.finish("label", start, &[tokens.labels, tokens.forest, tokens.separate])?;
        Ok((tokens, seconds))
    }
}
