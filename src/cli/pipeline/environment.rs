//! LE training and labels.

use super::base::Base;
use crate::autograd::Param;
use crate::data::Dataset;
use crate::decoder::Decoder;
use crate::device::profile;
use crate::files::FileHash;
use crate::le::fit::{FitData, FitEpoch, fit};
use crate::le::item_file::ITEM_TOKENS;
use crate::le::separate::separate_rewards;
use crate::le::{
    Environment, LabelHeader, LabelPart, LabelWriter, LeConfig, LeData, LeRecord, Prompt, Quality, SPLIT,
    TokenCount, judge, label_all, merge, peft,
};
use crate::progress::MetricsLog;
use crate::report::PassCost;
use crate::tensor::Tensor;
use crate::tensor::checkpoint::Checkpoints;
use crate::{Result, interrupt};
use std::path::Path;
use std::time::Instant;

/// A trained LE and what its making showed.
pub struct Built {
    /// The LE.
    pub env: Environment,
    /// Loss of the item tokens in nats a text token, before and after step 1.
    pub items_loss: [f64; 2],
    /// Epochs of step 2.
    pub epochs: Vec<FitEpoch>,
    /// Quality on held-out users.
    pub quality: Quality,
    /// Rows of the labelling pass.
    pub tokens: TokenCount,
    /// Its wall time.
    pub label_seconds: f64,
    /// Some of its rewards from separate prompts.
    pub separate: Option<PassCost>,
}

/// Files of an LE's folder.
pub const LE_FILES: [&str; 5] =
    ["adapter_config.json", "adapter_model.safetensors", ITEM_TOKENS, "le.json", "split.json"];

/// Rewards that [`LeJob::separate_sample`] computes.
const SEPARATE_SAMPLE: usize = 3000;

/// Texts of the catalogue.
pub fn texts(dataset: &Dataset) -> Vec<&str> {
    dataset.items.iter().map(|item| item.text.as_str()).collect()
}

/// Everything that the steps of an LE share.
pub struct LeJob<'a> {
    /// The decoder.
    pub base: &'a Base,
    /// The data set and its split.
    pub data: LeData<'a>,
    /// Hash of the data set.
    pub data_hash: &'a str,
    /// Settings.
    pub settings: &'a LeConfig,
    /// Seed of all of it.
    pub seed: u64,
}

impl LeJob<'_> {
    /// An LE before its training: fresh adapters, a score head of zeros, the item tokens of step 1.
    pub fn assemble(&self, items: &Tensor) -> Result<Environment> {
        let mut decoder = self.base.decoder.clone();
        decoder.add_lora(&self.settings.fit.lora, self.seed)?;
        let head = Tensor::zeros(&decoder.device(), decoder.dtype(), &[decoder.config.hidden_size])?;
        self.assemble_on(items, decoder, head)
    }

    /// The same with adapters and a score head that are there already.
    pub fn assemble_on(&self, items: &Tensor, mut decoder: Decoder, head: Tensor) -> Result<Environment> {
        let fit = &self.settings.fit;
        decoder.checkpoint = fit.checkpoint;
        let item = if fit.item_learning_rate > 0.0 { Param::trainable } else { Param::frozen };
        Ok(Environment {
            items: item("item_tokens".to_string(), items.clone()),
            head: Param::trainable("score.weight", head),
            prompt: Prompt::new(&self.settings.prompt, self.base.tokenizer()?)?,
            history: self.settings.history,
            decoder,
        })
    }

    /// Step 2, and the LE's quality on held-out users; each with checkpoints of its own.
    pub fn fit(
        &self,
        env: &Environment,
        log: &mut MetricsLog,
        (keep, judging): (&mut Checkpoints, &mut Checkpoints),
    ) -> Result<(Vec<FitEpoch>, Quality)> {
        let counts = self.data.counts()?;
        let met = |user: u32| self.data.met(user);
        let works = self.data.fit_works(env.history)?;
        let data = FitData { works: &works, counts: &counts, met: &met };
        let epochs = fit(env, &data, &self.settings.fit, self.seed, log, keep)?;
        let range = profile::range(|| "judge".into());
        let quality = judge(env, self.data, self.settings, self.seed, judging)?;
        drop(range);
        log.write(&serde_json::json!({ "step": "quality", "quality": &quality }))?;
        Ok((epochs, quality))
    }

    /// The LE that an earlier, interrupted run of this job saved in `dir`.
    pub(super) fn load(&self, dir: &Path) -> Result<Environment> {
        Ok(peft::load_on(dir, &self.base.decoder, &self.base.identity)?.env)
    }

    /// Times separate prompts on a sample: the steps of held-out users, as many actions a step as labelling scores.
    pub(super) fn separate_sample(&self, env: &Environment) -> Result<Option<PassCost>> {
        let env = env.merged()?;
        let label = &self.settings.label;
        let actions = 1 + label.negatives + label.candidates.min(env.catalogue());
        let works = self.data.held_out_works(env.history);
        let (start, mut cost) = (Instant::now(), PassCost { labels: 0, tokens: 0, seconds: 0.0 });
        for work in works {
            let work = work?;
            interrupt::check("timing separate prompts")?;
            let list: Vec<(usize, u32)> = work
                .owned
                .clone()
                .flat_map(|row| (0..actions).map(move |a| (row, a)))
                .map(|(row, a)| (row, (a % env.catalogue()) as u32))
                .collect();
            let (rewards, rows) =
                separate_rewards(&env, &work.history, &list, label.pack_rows(&env.device()))?;
            cost.labels += rewards.len() as u64;
            cost.tokens += rows;
            if cost.labels as usize >= SEPARATE_SAMPLE {
                break;
            }
        }
        cost.seconds = start.elapsed().as_secs_f64();
        Ok((cost.labels > 0).then_some(cost))
    }

    /// Writes the LE's folder, its split beside it.
    pub fn save(&self, env: &Environment, epochs: &[FitEpoch], quality: &Quality, dir: &Path) -> Result<()> {
        let record = LeRecord {
            decoder: self.base.identity.clone(),
            items_hash: self.data.dataset.items_hash(),
            data_hash: self.data_hash.to_string(),
            split_hash: self.data.split.hash(),
            seed: self.seed,
            settings: self.settings.clone(),
            training: serde_json::json!({ "epochs": epochs, "quality": quality }),
        };
        self.data.split.save(&dir.join("split.json"))?;
        peft::save(env, &record, &self.base.dir, dir)
    }

    /// Hash of a saved LE.
    pub fn hash(&self, dir: &Path) -> Result<String> {
        Ok(FileHash::of(&dir.join("le.json"))?.sha256)
    }

    /// Step 3 into the folder `out`, where labels that it holds already are kept; the split goes beside the labels. Where
    /// `part` is all of them, the manifest is written too.
    pub fn label(
        &self,
        header: LabelHeader,
        env: &Environment,
        quality: &serde_json::Value,
        (out, part): (&Path, LabelPart),
        log: &mut MetricsLog,
    ) -> Result<TokenCount> {
        let whole = part.shard().is_none();
        let writer = LabelWriter::open(out, header, part)?;
        self.data.split.save(&out.join(SPLIT))?;
        let tokens = label_all(env, self.data, self.settings, self.seed, &writer, quality, log)?;
        if whole {
            merge(out)?;
        }
        Ok(tokens)
    }

    /// What labels of this job are made of and how.
    pub fn label_header(&self, env: &Environment, le_hash: &str) -> Result<LabelHeader> {
        let (dataset, label) = (self.data.dataset, &self.settings.label);
        let augmented = label.candidates > 0;
        Ok(LabelHeader {
            users: self.data.users.count(),
            items: dataset.items.len(),
            state_dim: env.width(),
            negatives: label.negatives,
            augmented,
            augmented_states: augmented && label.augmented_states,
            settings: label.clone(),
            seed: self.seed,
            data_hash: self.data_hash.to_string(),
            interactions_hash: self.data.users.interactions_hash(),
            le_hash: le_hash.to_string(),
            decoder_hash: self.base.identity.hash(),
            made_by: format!("{}, lea {}", env.device().arithmetic(), env!("CARGO_PKG_VERSION")),
            split_hash: self.data.split.hash(),
        })
    }
}
