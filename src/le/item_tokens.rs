//! Step 1: one token an item, from which the frozen decoder writes the item's text.
//!
//! e_i minimises −Σ_j log p(y_j | e_i, y_<j) (LEA, arXiv 2403.16948, section 3.1); its initial value is the mean
//! embedding of the text's tokens. With the decoder frozen the items are independent problems, so each batch of items
//! is trained to its end before the next: the optimiser never holds more than a batch.

use super::config::ItemTokenConfig;
use crate::autograd::{Param, Var, apply, backward};
use crate::decoder::{Decoder, Rows, Tokenizer};
use crate::nn::{AdamW, AdamWConfig, Decay, Schedule};
use crate::ops::{CrossEntropy, Embedding, Mean};
use crate::progress::{MetricsLog, Progress};
use crate::tensor::Tensor;
use crate::{Error, Result};
use serde_json::json;

/// Item tokens `[items, d]`, and the mean loss a text token before and after.
pub struct ItemTokens {
    /// The table.
    pub table: Tensor,
    /// Nats a text token with the initial tokens.
    pub loss_before: f64,
    /// With the trained ones.
    pub loss_after: f64,
}

/// Trains a token for each of `texts`. An empty text keeps the mean of all tokens.
pub fn train_item_tokens(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    texts: &[&str],
    config: &ItemTokenConfig,
    log: &mut MetricsLog,
) -> Result<ItemTokens> {
    let mut encoded = tokenizer.encode_all(texts)?;
    for tokens in &mut encoded {
        tokens.truncate(config.max_text_tokens.min(decoder.config.max_position_embeddings - 1));
        tokens.extend(tokenizer.eos().first());
    }
    let d = decoder.config.hidden_size;
    let mut table = initial_table(decoder, &encoded)?;
    let mut sums = Losses::default();
    let mut progress = Progress::new("items", texts.len() as u64, "items");
    let mut from = 0;
    while from < encoded.len() {
        let to = batch_end(&encoded, from, config.batch_tokens);
        let batch: Vec<usize> = (from..to).filter(|&i| !encoded[i].is_empty()).collect();
        if !batch.is_empty() {
            let texts: Vec<&[u32]> = batch.iter().map(|&i| &encoded[i][..]).collect();
            let initial: Vec<f64> =
                batch.iter().flat_map(|&i| table[i * d..(i + 1) * d].iter().copied()).collect();
            let trained = train_batch(decoder, &texts, &initial, config, &mut sums)?;
            for (&item, row) in batch.iter().zip(trained.chunks(d)) {
                table[item * d..(item + 1) * d].copy_from_slice(row);
            }
            log.write(
                &json!({"step": "items", "items": to, "loss_before": sums.before(), "loss": sums.after()}),
            )?;
            progress.message(format!("loss {:.3} from {:.3}", sums.after(), sums.before()));
        }
        progress.advance((to - from) as u64);
        from = to;
    }
    progress.finish();
    let table = Tensor::from_f64(&decoder.device(), decoder.dtype(), &table, &[texts.len(), d])?;
    Ok(ItemTokens { table, loss_before: sums.before(), loss_after: sums.after() })
}

#[derive(Default)]
struct Losses {
    before: f64,
    after: f64,
    tokens: f64,
}

impl Losses {
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

/// Runs all epochs on one batch of items and returns their tokens.
fn train_batch(
    decoder: &Decoder,
    texts: &[&[u32]],
    initial: &[f64],
    config: &ItemTokenConfig,
    losses: &mut Losses,
) -> Result<Vec<f64>> {
    let (device, d) = (decoder.device(), decoder.config.hidden_size);
    let shape = [texts.len(), d];
    let tokens = Param::trainable("items", Tensor::from_f64(&device, decoder.dtype(), initial, &shape)?);
    let optimiser = AdamWConfig { lr: config.learning_rate, weight_decay: 0.0, ..AdamWConfig::default() };
    let mut optimiser = AdamW::new(vec![tokens.clone()], optimiser)?;
    let schedule = Schedule { warmup: 0, total: config.epochs as u64, kind: Decay::Cosine, floor: 0.1 };
    let rows: f64 = texts.iter().map(|t| t.len() as f64).sum();
    losses.tokens += rows;
    for epoch in 0..=config.epochs {
        let loss = text_loss(decoder, &tokens.var(), texts)?;
        let value = loss.value().item()? * rows;
        if !value.is_finite() {
            return Err(Error::setting(
                format!("the loss of the item tokens became {value} in epoch {epoch}"),
                "lower items.learning_rate",
            ));
        }
        if epoch == 0 {
            losses.before += value;
        }
        if epoch == config.epochs {
            losses.after += value;
            break;
        }
        optimiser.step(backward(&loss)?, schedule.scale(epoch as u64))?;
    }
    tokens.value().to_f64_vec()
}

/// Mean −log p(y_j | e_i, y_<j) over all text tokens.
fn text_loss(decoder: &Decoder, items: &Var, texts: &[&[u32]]) -> Result<Var> {
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
