//! How much memory the steps need, from shapes alone.
//!
//! All figures are bytes of f32 tensors that stand at one time. Beside them stand the data set and, on the CPU, up to
//! 768 MB of buffers that were freed and are kept for the next pass.
//!
//! With d the hidden width, f that of the feed-forward block, q and k the widths of query and key rows, L layers, V
//! tokens, I items, W weights and P those of adapters:
//!
//! - a row in one layer leaves a = 4d + 2q + 2k + 3f elements (plus q + k where heads are normed): residual stream and
//!   norms, queries, keys, values and their mixture, gate, up and their product;
//! - a pass of R rows that is not recorded holds R·a; a recorded one, with its backward pass, R·a·(L + 2), or
//!   R·(d·L + 2a) with checkpoints;
//! - a parameter that is trained counts four times: value, gradient, two moments of AdamW.

use crate::cli::config::RunConfig;
use crate::decoder::DecoderConfig;

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of an f64.
const F64: u64 = 8;

/// Bytes that one step holds, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The decoder and, trained, its gradients and moments.
    pub weights: u64,
    /// Item tokens, adapters and score head with theirs.
    pub trained: u64,
    /// The largest pass.
    pub pass: u64,
}

impl Estimate {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.trained).saturating_add(self.pass)
    }
}

/// Product that stops at the largest number.
fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor as u64))
}

/// Elements that a row leaves in one layer: a.
fn row(decoder: &DecoderConfig) -> usize {
    let (q, k) = (decoder.query_width(), decoder.key_width());
    let norms = if decoder.head_norms() { q + k } else { 0 };
    4 * decoder.hidden_size + 2 * q + 2 * k + 3 * decoder.intermediate_size + norms
}

/// A recorded pass of `rows` rows with its backward pass.
fn recorded(decoder: &DecoderConfig, rows: usize, checkpoint: bool) -> u64 {
    let (layers, a) = (decoder.num_hidden_layers, row(decoder));
    let width = if checkpoint { decoder.hidden_size * layers + 2 * a } else { a.saturating_mul(layers + 2) };
    F32 * product(&[rows, width])
}

/// Logits of `rows` rows, their gradient, and one more for the probabilities.
fn logits(decoder: &DecoderConfig, rows: usize) -> u64 {
    3 * F32 * product(&[rows, decoder.vocab_size])
}

/// `lea pretrain`: 4 W, W of the best epoch, a recorded pass of `batch_tokens` rows and its logits.
pub fn pretrain(decoder: &DecoderConfig, settings: &RunConfig) -> Estimate {
    let rows = settings.pretrain.batch_tokens.max(settings.pretrain.text_tokens);
    Estimate {
        weights: 5 * F32 * decoder.parameters() as u64,
        pass: recorded(decoder, rows, false) + logits(decoder, rows),
        trained: 0,
    }
}

/// `lea items`: W, the table of I·d and the embedding once more in f64, a recorded pass of `batch_tokens` rows and its
/// logits.
pub fn items(decoder: &DecoderConfig, settings: &RunConfig, items: usize) -> Estimate {
    let (rows, d) = (settings.le.items.batch_tokens, decoder.hidden_size);
    Estimate {
        weights: F32 * decoder.parameters() as u64 + F64 * product(&[decoder.vocab_size, d]),
        trained: F64 * product(&[items, d]),
        pass: recorded(decoder, rows, false) + logits(decoder, rows),
    }
}

/// `lea fit`: W, 4 (P + d + I·d) (I·d once where item tokens stay as they are), a recorded pass of `batch_tokens` rows,
/// the directions of all items twice, and the similarities of the steps with the negatives of InfoNCE four times.
pub fn fit(decoder: &DecoderConfig, settings: &RunConfig, items: usize) -> Estimate {
    let (fit, d) = (&settings.le.fit, decoder.hidden_size);
    let tokens = product(&[items, d]);
    let copies = if fit.item_learning_rate > 0.0 { 4 } else { 1 };
    let steps = fit.batch_tokens / (2 + fit.negatives) + 1;
    let columns = items.min(fit.state_negatives + steps);
    let low_rank = product(&[fit.batch_tokens, 2 * fit.lora.rank, fit.lora.targets.len().min(7)]);
    Estimate {
        weights: F32 * decoder.parameters() as u64,
        trained: F32 * (4 * (adapters(decoder, settings) + d as u64) + copies * tokens),
        pass: recorded(decoder, fit.batch_tokens, fit.checkpoint)
            + F32
                * (low_rank * decoder.num_hidden_layers as u64 + 2 * tokens + 4 * product(&[steps, columns])),
    }
}

/// `lea label`: W and the adapted projections once more, merged; item tokens and their directions; a pass of
/// `pack_tokens` rows beside the keys and values of its trunks in all layers, and their states. Labels go to their file
/// pack by pack: the number of users has no bearing.
pub fn label(decoder: &DecoderConfig, settings: &RunConfig, items: usize) -> Estimate {
    let (label, d) = (&settings.le.label, decoder.hidden_size);
    let actions = 1 + label.negatives + label.candidates.min(items);
    let (rows, k) = (label.pack_tokens, decoder.key_width());
    let trunks = (rows / (1 + actions)).max(settings.le.history);
    let keys = product(&[2, k, decoder.num_hidden_layers, trunks]) + product(&[2, k, trunks + rows]);
    Estimate {
        weights: F32 * (decoder.parameters() as u64 + adapted(decoder, settings)),
        trained: F32 * (2 * product(&[items, d]) + d as u64),
        pass: F32 * (product(&[rows, row(decoder)]) + keys + product(&[3, trunks, d])),
    }
}

/// Shapes (in, out) of the adapted projections with their ranks.
fn projections(decoder: &DecoderConfig, settings: &RunConfig) -> Vec<(usize, usize, usize)> {
    let (d, f, q, k) =
        (decoder.hidden_size, decoder.intermediate_size, decoder.query_width(), decoder.key_width());
    let shape = |module: &str| match module.rsplit('.').next() {
        Some("q_proj") => (d, q),
        Some("k_proj" | "v_proj") => (d, k),
        Some("o_proj") => (q, d),
        Some("down_proj") => (f, d),
        _ => (d, f),
    };
    let adapters = settings.le.fit.lora.adapters(decoder.num_hidden_layers).unwrap_or_default();
    let of = |a: &crate::decoder::AdapterShape| (shape(&a.module).0, shape(&a.module).1, a.rank);
    adapters.iter().map(of).collect()
}

/// Elements of all A and B: P.
fn adapters(decoder: &DecoderConfig, settings: &RunConfig) -> u64 {
    projections(decoder, settings).iter().map(|&(input, output, rank)| product(&[input + output, rank])).sum()
}

/// Elements of the projections that have an adapter.
fn adapted(decoder: &DecoderConfig, settings: &RunConfig) -> u64 {
    projections(decoder, settings).iter().map(|&(input, output, _)| product(&[input, output])).sum()
}
