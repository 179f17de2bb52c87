//! A tokenizer and a small decoder trained from scratch on texts: next-token cross-entropy on packed texts.

mod trainer;

use super::{Decoder, DecoderConfig, Tokenizer};
use crate::device::{DType, Device};
use crate::progress::MetricsLog;
use crate::tensor::checkpoint::Checkpoints;
use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use trainer::Trainer;

/// Shape of the decoder and how it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Width d of the hidden rows.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward block.
    pub ffn: usize,
    /// Most tokens of the vocabulary; few texts give fewer.
    pub vocab: usize,
    /// Context of the decoder: the deepest text or forest that it will be able to read.
    pub context: usize,
    /// Tokens of a text that are read; the rest is cut off.
    pub text_tokens: usize,
    /// Passes over the texts.
    pub epochs: usize,
    /// Tokens of one step, whole texts packed one after another.
    pub batch_tokens: usize,
    /// Learning rate at its peak.
    pub lr: f64,
    /// Share of the steps that warm up.
    pub warmup: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Share of the texts that are held out to measure the loss.
    pub held_out: f64,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        PretrainConfig {
            hidden: 128,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            ffn: 344,
            vocab: 2048,
            context: 512,
            text_tokens: 128,
            epochs: 10,
            batch_tokens: 4096,
            lr: 3e-3,
            warmup: 0.1,
            weight_decay: 0.1,
            held_out: 0.02,
        }
    }
}

/// What pretraining reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainReport {
    /// Texts trained on, held-out ones not counted.
    pub texts: usize,
    /// Tokens of one pass over them.
    pub tokens: usize,
    /// Weights of the decoder.
    pub parameters: usize,
    /// Mean loss in nats a held-out token before training.
    pub first_loss: f64,
    /// The same at the end of the epoch whose weights were kept: the best one.
    pub held_out_loss: f64,
    /// That epoch, counted from 1.
    pub epoch: usize,
}

impl PretrainConfig {
    /// Refuses settings that make no sense, by name.
    pub fn check(&self) -> Result<()> {
        let wrong =
            |problem: String, remedy: &str| Err(Error::setting(format!("pretrain: {problem}"), remedy));
        if self.heads == 0 || !self.hidden.is_multiple_of(self.heads) {
            return wrong(
                format!("{} heads do not divide hidden {}", self.heads, self.hidden),
                "change either",
            );
        }
        if self.epochs == 0 || self.batch_tokens == 0 || self.text_tokens == 0 {
            return wrong("epochs, batch_tokens or text_tokens is 0".into(), "set it to 1 or more");
        }
        if self.vocab < Tokenizer::LEAST_VOCAB {
            let (problem, least) =
                (format!("vocab {} cannot spell every byte", self.vocab), Tokenizer::LEAST_VOCAB);
            return wrong(problem, &format!("set vocab to {least} or more"));
        }
        if self.text_tokens + 2 > self.context {
            let problem =
                format!("text_tokens {} leave no room in context {}", self.text_tokens, self.context);
            return wrong(problem, "set text_tokens at least two below context");
        }
        if !(0.0..=0.5).contains(&self.held_out) || !(0.0..=1.0).contains(&self.warmup) {
            let problem = format!("held_out {} or warmup {}", self.held_out, self.warmup);
            return wrong(problem, "set held_out in 0..0.5 and warmup in 0..1");
        }
        Ok(())
    }

    fn decoder_config(&self, tokenizer: &Tokenizer) -> DecoderConfig {
        DecoderConfig {
            hidden_size: self.hidden,
            intermediate_size: self.ffn,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.hidden / self.heads,
            vocab_size: tokenizer.vocab_size(),
            max_position_embeddings: self.context,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            bos_token_id: tokenizer.bos(),
            eos_token_ids: tokenizer.eos().to_vec(),
            ..DecoderConfig::default()
        }
    }
}

/// Trains tokenizer and decoder on `texts`; empty ones are passed over. The same texts, configuration and seed give
/// the same bits, in one go or resumed from the checkpoints that `keep` holds. The decoder comes back frozen, with the
/// weights of the epoch that was best on the held-out texts.
pub fn pretrain<S: AsRef<str> + Sync>(
    texts: &[S],
    config: &PretrainConfig,
    seed: u64,
    device: &Device,
    log: &mut MetricsLog,
    keep: &mut Checkpoints,
) -> Result<(Decoder, Tokenizer, PretrainReport)> {
    config.check()?;
    let texts: Vec<&str> = texts.iter().map(|t| t.as_ref().trim()).filter(|t| !t.is_empty()).collect();
    if texts.len() < 2 {
        return Err(Error::setting(
            format!("{} texts are too few to train a decoder on", texts.len()),
            "check the items' text columns, or give a decoder with --decoder",
        ));
    }
    let tokenizer = Tokenizer::train(texts.iter().copied(), config.vocab)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sequences = sequences(&tokenizer, &texts, config.text_tokens)?;
    sequences.shuffle(&mut rng);
    // At least one text on either side.
    let held = ((sequences.len() as f64 * config.held_out) as usize).clamp(1, sequences.len() - 1);
    let train = sequences.split_off(held);
    let decoder_config = config.decoder_config(&tokenizer);
    let decoder = Decoder::random(decoder_config, rng.random(), device, DType::F32, true)?;
    let held_out = pack(&sequences.iter().collect::<Vec<_>>(), config.batch_tokens);
    let mut trainer = Trainer { decoder, config, held_out, rng, log, keep };
    let report = trainer.run(&train)?;
    Ok((trainer.decoder.merged()?, tokenizer, report))
}

/// Opening token, text, ending token.
fn sequences(tokenizer: &Tokenizer, texts: &[&str], most: usize) -> Result<Vec<Vec<u32>>> {
    let close = |mut ids: Vec<u32>| {
        ids.truncate(most);
        let open = tokenizer.bos().into_iter();
        open.chain(ids).chain(tokenizer.eos().first().copied()).collect()
    };
    Ok(tokenizer.encode_all(texts)?.into_iter().map(close).collect())
}

/// Whole sequences one after another, at most `tokens` a pack but never less than one sequence.
fn pack<'a>(sequences: &[&'a Vec<u32>], tokens: usize) -> Vec<Vec<&'a Vec<u32>>> {
    let mut packs: Vec<Vec<&Vec<u32>>> = Vec::new();
    let mut filled = usize::MAX;
    for &sequence in sequences {
        if filled.saturating_add(sequence.len()) > tokens {
            packs.push(Vec::new());
            filled = 0;
        }
        filled += sequence.len();
        packs.last_mut().expect("a pack was just opened").push(sequence);
    }
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of one grammar: what follows is told by what comes before.
    fn texts() -> Vec<String> {
        let (kinds, colours) = (["hose", "pipe", "valve", "pump"], ["red", "blue", "green"]);
        let pairs = kinds.iter().flat_map(|kind| colours.iter().map(move |colour| (kind, colour)));
        let lines = pairs.flat_map(|(kind, colour)| {
            (1..9).map(move |i| format!("{colour} {kind}, {colour} like a {kind}, size {i}"))
        });
        lines.collect()
    }

    fn small() -> PretrainConfig {
        PretrainConfig {
            hidden: 32,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            ffn: 64,
            vocab: 300,
            context: 64,
            text_tokens: 40,
            epochs: 8,
            batch_tokens: 64,
            held_out: 0.1,
            ..PretrainConfig::default()
        }
    }

    fn run(seed: u64) -> (Vec<f64>, PretrainReport) {
        let (decoder, _, report) = pretrain(
            &texts(),
            &small(),
            seed,
            &Device::Cpu,
            &mut MetricsLog::none(),
            &mut Checkpoints::none(),
        )
        .unwrap();
        assert!(decoder.params().iter().all(|p| !p.is_trainable()));
        (decoder.embed.value().to_f64_vec().unwrap(), report)
    }

    #[test]
    fn the_held_out_loss_falls_and_one_seed_gives_the_same_bits() {
        let (weights, report) = run(7);
        assert!(report.first_loss > 5.0, "a fresh decoder guesses evenly: {}", report.first_loss);
        assert!(report.held_out_loss < 0.5 * report.first_loss, "{}", report.held_out_loss);
        assert_eq!((weights, report), run(7));
    }

    #[test]
    fn another_seed_gives_another_decoder() {
        assert_ne!(run(7).0, run(8).0);
    }

    #[test]
    fn packs_hold_whole_sequences_within_the_budget() {
        let sequences: Vec<Vec<u32>> = [3usize, 4, 5, 20, 2].map(|n| vec![0; n]).to_vec();
        let packs = pack(&sequences.iter().collect::<Vec<_>>(), 8);
        let lengths: Vec<Vec<usize>> = packs.iter().map(|p| p.iter().map(|s| s.len()).collect()).collect();
        assert_eq!(lengths, [vec![3, 4], vec![5], vec![20], vec![2]]);
    }

    #[test]
    fn settings_that_make_no_sense_are_errors() {
        let fails = |config: PretrainConfig| {
            pretrain(&texts(), &config, 0, &Device::Cpu, &mut MetricsLog::none(), &mut Checkpoints::none())
                .err()
                .unwrap()
                .to_string()
        };
        assert!(fails(PretrainConfig { heads: 3, ..small() }).contains("3 heads do not divide hidden 32"));
        assert!(fails(PretrainConfig { context: 20, ..small() }).contains("leave no room in context"));
        assert!(fails(PretrainConfig { vocab: 9, ..small() }).contains("vocab 9 cannot"));
        let none: [&str; 2] = ["", "  "];
        let error =
            pretrain(&none, &small(), 0, &Device::Cpu, &mut MetricsLog::none(), &mut Checkpoints::none())
                .err()
                .unwrap();
        assert!(error.to_string().contains("0 texts are too few"));
    }
}
