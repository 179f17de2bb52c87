//! Step 1: one token an item, from which the frozen decoder writes the item's text.
//!
//! e_i minimises −Σ_j log p(y_j | e_i, y_<j) (LEA, arXiv 2403.16948, section 3.1); its initial value is the mean
//! embedding of the text's tokens. With the decoder frozen the items are independent problems, so each batch of items
//! is trained to its end before the next: the optimiser never holds more than a batch.

use super::config::ItemTokenConfig;
use crate::autograd::{Param, Var, apply, backward};
use crate::decoder::{Decoder, Rows, Tokenizer};
use crate::device::profile;
use crate::nn::{AdamW, AdamWConfig, Decay, Schedule};
use crate::ops::{CrossEntropy, Embedding, Mean};
use crate::progress::{MetricsLog, Progress};
use crate::tensor::Tensor;
use crate::tensor::checkpoint::{Checkpoint, Checkpoints};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Range;

/// Item tokens `[items, d]`, and the mean loss a text token before and after.
pub struct ItemTokens {
    /// The table.
    pub table: Tensor,
    /// Nats a text token with the initial tokens.
    pub loss_before: f64,
    /// With the trained ones.
    pub loss_after: f64,
}

/// Trains a token for each of `texts`. An empty text keeps the mean of all tokens. The same texts give the same bits, in
/// one go or resumed from the checkpoints that `keep` holds.
pub fn train_item_tokens(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    texts: &[&str],
    config: &ItemTokenConfig,
    log: &mut MetricsLog,
    keep: &mut Checkpoints,
) -> Result<ItemTokens> {
    let mut encoded = tokenizer.encode_all(texts)?;
    for tokens in &mut encoded {
        tokens.truncate(config.max_text_tokens.min(decoder.config.max_position_embeddings - 1));
        tokens.extend(tokenizer.eos().first());
    }
    let table = initial_table(decoder, &encoded)?;
    let mut training = Training { decoder, config, texts: &encoded, table, from: 0, sums: Losses::default() };
    let mut left = match keep.begin(log)? {
        Some(checkpoint) => training.restore(checkpoint)?,
        None => None,
    };
    let mut progress = Progress::new("items", texts.len() as u64, "items");
    progress.resume(training.from as u64);
    while training.from < encoded.len() {
        let to = batch_end(&encoded, training.from, config.batch_tokens);
        let trained = training.batch(training.from..to, left.take(), log, keep)?;
        progress.advance((to - training.from) as u64);
        training.from = to;
        if trained {
            let (before, after) = (training.sums.before(), training.sums.after());
            log.write(&json!({"step": "items", "items": to, "loss_before": before, "loss": after}))?;
            progress.message(format!("loss {after:.3} from {before:.3}"));
        }
    }
    progress.finish();
    // What follows in a run starts from these tokens.
    keep.save(log, training.checkpoint(None)?)?;
    let Training { table, sums, .. } = training;
    let shape = [texts.len(), decoder.config.hidden_size];
    let table = Tensor::from_f64(&decoder.device(), decoder.dtype(), &table, &shape)?;
    Ok(ItemTokens { table, loss_before: sums.before(), loss_after: sums.after() })
}

/// The table under way, batch after batch of items.
struct Training<'a> {
    decoder: &'a Decoder,
    config: &'a ItemTokenConfig,
    texts: &'a [Vec<u32>],
    /// `[items, d]`, trained up to `from`.
    table: Vec<f64>,
    from: usize,
    /// Of the trained ones.
    sums: Losses,
}

/// A batch amid its epochs.
struct Batch {
    tokens: Param,
    optimiser: AdamW,
    /// Optimiser steps taken.
    steps: usize,
    /// Its loss before the first.
    before: f64,
}

/// How far it has come.
#[derive(Serialize, Deserialize)]
struct Place {
    from: usize,
    /// Steps taken on the batch that begins there.
    steps: usize,
}

impl Training<'_> {
    fn checkpoint(&self, batch: Option<&Batch>) -> Result<Checkpoint> {
        let (device, dtype, d) =
            (self.decoder.device(), self.decoder.dtype(), self.decoder.config.hidden_size);
        let rows = Tensor::from_f64(&device, dtype, &self.table[..self.from * d], &[self.from, d])?;
        let place = Place { from: self.from, steps: batch.map_or(0, |b| b.steps) };
        let Losses { before, after, tokens } = self.sums;
        let checkpoint = Checkpoint::new(&place)?
            .with("table", rows)
            .with_numbers("sums", &[before, after, tokens, batch.map_or(0.0, |b| b.before)])?;
        match batch {
            Some(b) => Ok(checkpoint.with("batch", b.tokens.value()).with_all("", b.optimiser.state()?)),
            None => Ok(checkpoint),
        }
    }

    /// Takes over what a checkpoint holds, and returns it where it was made amid a batch.
    fn restore(&mut self, from: Checkpoint) -> Result<Option<Checkpoint>> {
        let place: Place = from.state()?;
        if place.from > self.texts.len() {
            return Err(from.damaged_state("it has more items than the catalogue"));
        }
        let d = self.decoder.config.hidden_size;
        let rows = from.tensor("table", &[place.from, d], self.decoder.dtype())?.to_f64_vec()?;
        self.table[..rows.len()].copy_from_slice(&rows);
        self.from = place.from;
        let [before, after, tokens, _] = from.numbers("sums")?;
        self.sums = Losses { before, after, tokens };
        Ok((place.steps > 0).then_some(from))
    }

    /// Trains the items of `range` that have a text, from `left` on where that was made amid their epochs. `false`
    /// where there are none.
    fn batch(
        &mut self,
        range: Range<usize>,
        left: Option<Checkpoint>,
        log: &MetricsLog,
        keep: &mut Checkpoints,
    ) -> Result<bool> {
        let d = self.decoder.config.hidden_size;
        let items: Vec<usize> = range.filter(|&i| !self.texts[i].is_empty()).collect();
        if items.is_empty() {
            return Ok(false);
        }
        let texts: Vec<&[u32]> = items.iter().map(|&i| &self.texts[i][..]).collect();
        let rows: f64 = texts.iter().map(|t| t.len() as f64).sum();
        let mut batch = self.start(&items, left)?;
        let schedule =
            Schedule { warmup: 0, total: self.config.epochs as u64, kind: Decay::Cosine, floor: 0.1 };
        let after = loop {
            let loss = text_loss(self.decoder, &batch.tokens.var(), &texts)?;
            let value = loss.value().item()? * rows;
            if !value.is_finite() {
                return Err(diverged(value, batch.steps));
            }
            if batch.steps == 0 {
                batch.before = value;
            }
            if batch.steps >= self.config.epochs {
                break value;
            }
            batch.optimiser.step(backward(&loss)?, schedule.scale(batch.steps as u64))?;
            batch.steps += 1;
            let place = || format!("items, from item {} of {}", self.from, self.texts.len());
            keep.point(log, place, || self.checkpoint(Some(&batch)))?;
        };
        self.sums.add(batch.before, after, rows);
        for (&item, row) in items.iter().zip(batch.tokens.value().to_f64_vec()?.chunks(d)) {
            self.table[item * d..(item + 1) * d].copy_from_slice(row);
        }
        Ok(true)
    }

    fn start(&self, items: &[usize], left: Option<Checkpoint>) -> Result<Batch> {
        let (decoder, d) = (self.decoder, self.decoder.config.hidden_size);
        let row = |&i: &usize| self.table[i * d..(i + 1) * d].iter().copied();
        let initial: Vec<f64> = items.iter().flat_map(row).collect();
        let shape = [items.len(), d];
        let tokens = Tensor::from_f64(&decoder.device(), decoder.dtype(), &initial, &shape)?;
        let tokens = Param::trainable("items", tokens);
        let adamw =
            AdamWConfig { lr: self.config.learning_rate, weight_decay: 0.0, ..AdamWConfig::default() };
        let mut optimiser = AdamW::new(vec![tokens.clone()], adamw)?;
        let Some(left) = left else { return Ok(Batch { tokens, optimiser, steps: 0, before: 0.0 }) };
        optimiser.load_state(&left.all(""))?;
        tokens.set(left.tensor("batch", &shape, decoder.dtype())?);
        let [_, _, _, before] = left.numbers("sums")?;
        Ok(Batch { tokens, optimiser, steps: left.state::<Place>()?.steps, before })
    }
}

fn diverged(loss: f64, epoch: usize) -> Error {
    Error::setting(
        format!("the loss of the item tokens became {loss} in epoch {epoch}"),
        "lower items.learning_rate",
    )
}

#[derive(Clone, Copy, Default)]
struct Losses {
    before: f64,
    after: f64,
    tokens: f64,
}

impl Losses {
    /// Sums over a batch of `tokens` text tokens.
    fn add(&mut self, before: f64, after: f64, tokens: f64) {
        self.before += before;
        self.after += after;
        self.tokens += tokens;
    }

    fn before(&self) -> f64 {
        self.before / self.tokens.max(1.0)
    }
    fn after(&self) -> f64 {
        self.after / self.tokens.max(1.0)
    }
}

/// The mean embedding of each text; that of all texts for an empty one.
fn initial_table(decoder: &Decoder, texts: &[Vec<u32>]) -> Result<Vec<f64>> {
    let (embed, d) = (decoder.embed.value().to_f64_vec()?, decoder.config.hidden_size);
    let mean = |tokens: &mut dyn Iterator<Item = u32>| {
        let (mut sum, mut count) = (vec![0.0; d], 0.0f64);
        for token in tokens {
            let row = &embed[token as usize * d..][..d];
            sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            count += 1.0;
        }
        sum.iter_mut().for_each(|s| *s /= count.max(1.0));
        sum
    };
    let overall = mean(&mut texts.iter().flatten().copied());
    let row = |text: &Vec<u32>| {
        if text.is_empty() { overall.clone() } else { mean(&mut text.iter().copied()) }
    };
    Ok(texts.iter().flat_map(row).collect())
}

fn batch_end(texts: &[Vec<u32>], from: usize, budget: usize) -> usize {
    let mut rows = 0;
    let mut to = from;
    while to < texts.len() && (to == from || rows + texts[to].len() <= budget) {
        rows += texts[to].len();
        to += 1;
    }
    to
}

/// Mean −log p(y_j | e_i, y_<j) over all text tokens.
fn text_loss(decoder: &Decoder, items: &Var, texts: &[&[u32]]) -> Result<Var> {
    let _range = profile::range(|| "forward".into());
    let device = decoder.device();
    let vocab = decoder.config.vocab_size as u32;
    let (mut ids, mut targets) = (Vec::new(), Vec::new());
    for (i, text) in texts.iter().enumerate() {
        ids.push(vocab + i as u32);
        ids.extend(&text[..text.len() - 1]);
        targets.extend_from_slice(text);
    }
    let lengths: Vec<usize> = texts.iter().map(|t| t.len()).collect();
    let x = apply(Embedding::new(Tensor::from_ids(&device, &ids)?), &[&decoder.embed.var(), items])?;
    let hidden = decoder.forward(&x, &Rows::causal(&device, &lengths)?)?;
    let logits = decoder.logits(&decoder.final_norm(&hidden)?)?;
    let losses = apply(CrossEntropy::new(Tensor::from_ids(&device, &targets)?), &[&logits])?;
    apply(Mean::new(), &[&losses])
}
