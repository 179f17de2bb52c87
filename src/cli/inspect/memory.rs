//! How much memory the steps need, from shapes alone.
//!
//! All figures are bytes that stand at one time. A decoder's frozen projections count as the device stores them, all other
//! tensors are f32. Beside each step stands the data set, which
//! [`data`] tells, and, on the CPU, up to 768 MB of buffers that were freed and are kept for the next pass.
//!
//! With d the hidden width, f that of the feed-forward block, q and k the widths of query and key rows, L layers, V
//! tokens, I items, W weights, W' those of a frozen decoder as the device stores them, and P those of adapters:
//!
//! - a row in one layer leaves a = 4d + 2q + 2k + 3f elements (plus q + k where heads are normed): residual stream and
//!   norms, queries, keys, values and their mixture, gate, up and their product;
//! - a pass of R rows that is not recorded holds R·a, 4 bytes each; on CUDA with projections in bf16 it holds R·(12d + 8q + 8k +
//!   6f) bytes, since rows that only products read are in bf16, as are keys and values; a recorded one, with its backward pass, R·a·(L + 2), or
//!   R·(d·L + 2a) with checkpoints;
//! - a parameter that is trained counts four times: value, gradient, two moments of AdamW.

use crate::cli::config::RunConfig;
use crate::data::Dataset;
use crate::decoder::DecoderConfig;
use crate::device::cpu::matmul_bf16::kept_bytes;
use crate::device::{DType, Device};
use crate::rec::{EncoderKind, RecConfig, Variant};

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of an f64.
const F64: u64 = 8;

/// Bytes that one step holds, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The decoder and, trained, its gradients and moments; of `train`, which has no decoder, the labels and the steps
    /// of the users.
    pub weights: u64,
    /// Item tokens, adapters and score head with theirs; of `train`, its networks.
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

/// How much a data set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSize {
    /// Users.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// Events of all users.
    pub interactions: usize,
    /// Bytes of all ids, texts and columns of items.
    pub text: usize,
}

/// Bytes of id, text and columns of an item where no data tell; of a user's id, a tenth of it.
const TEXT: usize = 120;
/// Events of a user where no data tell.
const EVENTS: usize = 10;

impl DataSize {
    /// That of `data`.
    pub fn of(data: &Dataset) -> Self {
        let column = |cell: &String| size_of::<String>() + cell.len();
        let items = data
            .items
            .iter()
            .map(|item| item.id.len() + item.text.len() + item.fields.iter().map(column).sum::<usize>());
        let text = items.sum::<usize>() + data.users.iter().map(|user| user.id.len()).sum::<usize>();
        let (users, items) = (data.users.len(), data.items.len());
        DataSize { users, items, interactions: data.interactions(), text }
    }

    /// Of a data set of which only these numbers are known.
    pub fn guessed(users: usize, items: usize, interactions: Option<usize>) -> Self {
        let interactions = interactions.unwrap_or(users.saturating_mul(EVENTS));
        let text = items.saturating_mul(TEXT).saturating_add(users.saturating_mul(TEXT / 10));
        DataSize { users, items, interactions, text }
    }
}

/// The data set: 48 bytes a user and 72 an item, 8 an event, and the ids, texts and columns.
pub fn data(size: &DataSize) -> u64 {
    let fixed = product(&[48, size.users]) + product(&[72, size.items]) + size.text as u64;
    fixed.saturating_add(product(&[8, size.interactions]))
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

/// Whether the device keeps rows that only products read in bf16, where nothing is recorded.
fn has_half_rows(decoder: &DecoderConfig, device: &Device) -> bool {
    let widths = [decoder.hidden_size, decoder.query_width(), decoder.intermediate_size];
    widths.iter().all(|&width| device.factor_type(device.frozen_type_of(width)) == DType::BF16)
}

/// Bytes that a row of a pass that is not recorded leaves in one layer.
fn row_bytes(decoder: &DecoderConfig, device: &Device) -> usize {
    let (q, k) = (decoder.query_width(), decoder.key_width());
    match has_half_rows(decoder, device) {
        true => {
            let norms = if decoder.head_norms() { 4 * (q + k) } else { 0 };
            12 * decoder.hidden_size + 8 * q + 8 * k + 6 * decoder.intermediate_size + norms
        }
        false => F32 as usize * row(decoder),
    }
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

/// `lea items`: W', the table of I·d and the embedding once more in f64, a recorded pass of `batch_tokens` rows and its
/// logits.
pub fn items(decoder: &DecoderConfig, settings: &RunConfig, items: usize, device: &Device) -> Estimate {
    let (rows, d) = (settings.le.items.batch_tokens, decoder.hidden_size);
    Estimate {
        weights: decoder.bytes_on(device, DType::F32) + F64 * product(&[decoder.vocab_size, d]),
        trained: F64 * product(&[items, d]),
        pass: recorded(decoder, rows, false) + logits(decoder, rows),
    }
}

/// `lea fit`: W', 4 (P + d + I·d) (I·d once where item tokens stay as they are), a recorded pass of `batch_tokens` rows,
/// the directions of all items twice, and the similarities of the steps with the negatives of InfoNCE four times.
pub fn fit(decoder: &DecoderConfig, settings: &RunConfig, items: usize, device: &Device) -> Estimate {
    let (fit, d) = (&settings.le.fit, decoder.hidden_size);
    let tokens = product(&[items, d]);
    let copies = if fit.item_learning_rate > 0.0 { 4 } else { 1 };
    let steps = fit.batch_tokens / (2 + fit.negatives) + 1;
    let columns = items.min(fit.state_negatives + steps);
    let low_rank = product(&[fit.batch_tokens, 2 * fit.lora.rank, fit.lora.targets.len().min(7)]);
    Estimate {
        weights: decoder.bytes_on(device, DType::F32),
        trained: F32 * (4 * (adapters(decoder, settings) + d as u64) + copies * tokens),
        pass: recorded(decoder, fit.batch_tokens, fit.checkpoint)
            + F32
                * (low_rank * decoder.num_hidden_layers as u64 + 2 * tokens + 4 * product(&[steps, columns])),
    }
}

/// `lea label`: W', the adapted projections once more, merged, and what products keep of them; item tokens and their directions; a pass of
/// `pack_tokens` rows beside the keys and values of its trunks in all layers, and their states. Labels go to their file
/// pack by pack: the number of users has no bearing.
pub fn label(decoder: &DecoderConfig, settings: &RunConfig, items: usize, device: &Device) -> Estimate {
    let (label, d) = (&settings.le.label, decoder.hidden_size);
    let actions = 1 + label.negatives + label.candidates.min(items);
    let (rows, k) = (label.pack_rows(device), decoder.key_width());
    let trunks = (rows / (1 + actions)).max(settings.le.history);
    let key_bytes = if has_half_rows(decoder, device) { DType::BF16.size() as u64 } else { F32 };
    let keys = product(&[2, k, decoder.num_hidden_layers, trunks]) + product(&[2, k, trunks + rows]);
    Estimate {
        weights: decoder.bytes_on(device, DType::F32)
            + adapted(decoder, settings, device)
            + kept(decoder, device),
        trained: F32 * (2 * product(&[items, d]) + d as u64),
        pass: product(&[rows, row_bytes(decoder, device)])
            + key_bytes * keys
            + F32 * product(&[3, trunks, d]),
    }
}

/// `lea train` of the variant LEA: the labels of all steps, read whole, and the users' steps as they are trained on; four
/// times the parameters of each network but for gradients, which one has at a time, and the best; a pass of `batch_steps`
/// steps with the scores of a block of them, or the label file that is being read, or the rows of an evaluation.
pub fn train(decoder: &DecoderConfig, settings: &RunConfig, size: &DataSize) -> Estimate {
    let (rec, label) = (settings.rec.clone().with_variant(Variant::Lea), &settings.le.label);
    let (d, steps) = (decoder.hidden_size, size.interactions.saturating_sub(size.users));
    let states = d * (1 + usize::from(label.augmented_states));
    let labels = F32 * product(&[steps, states + 2 * label.negatives + 3]);
    let files = size.users.div_ceil(label.users_per_file.max(1)).max(1) as u64;
    let (table, networks) = (product(&[size.items, rec.width]), if rec.framework.has_q() { 2 } else { 1 });
    // Moments and value of each, one gradient, the best weights; a second gradient of the table that two uses share.
    let trained = F32 * (parameters(&rec, size.items, d) * (3 * networks + 2) + table);
    let rows = rec.batch_steps;
    // Scores of a block of rows, their gradients and those of a search; the table as a product wants it.
    let scores = product(&[rows, size.items]).min((size.items as u64).max(1 << 21));
    let pass = F32 * (3 * scores + table + product(&[rows, encoder_row(&rec) + 4 * d]));
    // A tenth of the users validates; their histories, and one more for each step past the first, are read in pieces of
    // 16,384 rows, of which about eight are held.
    let each = steps / size.users.max(1);
    let read =
        each.min(rec.history).saturating_add(each.saturating_sub(rec.history).saturating_mul(rec.history));
    let read = (size.users / 10).saturating_mul(read).min(16_384);
    let evaluation = F32 * product(&[read, 8, rec.width]);
    Estimate {
        weights: labels.saturating_add(product(&[96, size.users]) + product(&[13, size.interactions])),
        trained,
        pass: pass.max(evaluation).max(labels / files * 2),
    }
}

/// Parameters of a recommender that reads states of width `d`.
fn parameters(rec: &RecConfig, items: usize, d: usize) -> u64 {
    let w = rec.width;
    let block = match rec.encoder {
        EncoderKind::SasRec => 6 * (w * w + w) + 4 * w,
        EncoderKind::Gru4Rec => 6 * (w * w + w),
    };
    let (q, head) = (rec.framework.has_q(), usize::from(!rec.tied));
    let tables = 1 + head + usize::from(q);
    let heads = product(&[items, tables * w + 1 + usize::from(q)]) + if q { product(&[w, d]) } else { 0 };
    heads + product(&[rec.blocks, block]) + product(&[rec.history + 2, w])
}

/// Elements that a row of a recommender's pass leaves in its blocks, with those of the backward pass.
fn encoder_row(rec: &RecConfig) -> usize {
    let block = match rec.encoder {
        EncoderKind::SasRec => 15,
        EncoderKind::Gru4Rec => 8,
    };
    2 * rec.width * (block * rec.blocks + 4)
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

/// Bytes of what products on the CPU keep of frozen projections in bf16.
fn kept(decoder: &DecoderConfig, device: &Device) -> u64 {
    if *device != Device::Cpu || device.frozen_type() != DType::BF16 {
        return 0;
    }
    let (d, f) = (decoder.hidden_size, decoder.intermediate_size);
    let (q, k) = (decoder.query_width(), decoder.key_width());
    let layer = [[q, d], [k, d], [k, d], [d, q], [f, d], [f, d], [d, f]];
    kept_bytes((0..decoder.num_hidden_layers).flat_map(|_| layer))
}

/// Bytes of the projections that have an adapter.
fn adapted(decoder: &DecoderConfig, settings: &RunConfig, device: &Device) -> u64 {
    let bytes = |&(input, output, _): &(usize, usize, usize)| {
        product(&[input, output, device.frozen_type_of(input).size()])
    };
    projections(decoder, settings).iter().map(bytes).sum()
}
