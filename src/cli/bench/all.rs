//! `lea bench all`: every bench, one after another.

use super::harness::{Timing, defaults};
use super::record::Record;
use super::table;
use super::{attention, eval, fit, label, matmul, train};
use crate::rec::EncoderKind;
use crate::{Error, Result};
use clap::Args;

/// `lea bench all`.
#[derive(Debug, Args)]
pub struct AllBench {
    /// Small shapes: seconds instead of minutes, and they tell little but that everything runs
    #[arg(long)]
    pub quick: bool,
    /// How each is timed
    #[command(flatten)]
    pub timing: Timing,
}

/// Runs `lea bench all`; with JSON each line comes as soon as it is measured.
pub fn run(args: &AllBench) -> Result<()> {
    if args.timing.trace.is_some() {
        return Err(Error::setting(
            "--trace traces one piece of work, and bench all runs many",
            "give it to the bench of that work, as in lea bench label --trace FILE",
        ));
    }
    let mut records = Vec::new();
    let mut add = |record: Record| {
        if args.timing.json {
            return table::print(&[record], true);
        }
        eprintln!("{}: {:.3} ms", record.title(), 1e3 * record.median_seconds);
        records.push(record);
        Ok(())
    };
    // The feed-forward part of a decoder of hidden width 288, a GRU's step, logits of a recommender.
    let products = match args.quick {
        true => [(64, 48, 32), (16, 48, 32), (64, 200, 16)],
        false => [(4096, 768, 288), (256, 192, 64), (2000, 5000, 64)],
    };
    for (m, n, k) in products {
        add(matmul::measure(&matmul::MatmulBench { m, n, k, timing: args.timing.clone(), ..defaults()? })?)?;
    }
    for bench in attention_args(args)? {
        add(attention::measure(&bench)?)?;
    }
    add(label::measure(&label_args(args)?)?)?;
    add(fit::measure(&fit_args(args)?)?)?;
    for encoder in [EncoderKind::SasRec, EncoderKind::Gru4Rec] {
        add(train::measure(&train_args(args, encoder)?)?)?;
    }
    add(eval::measure(&eval_args(args)?)?)?;
    match args.timing.json {
        true => Ok(()),
        false => table::print(&records, false),
    }
}

fn attention_args(args: &AllBench) -> Result<[attention::AttentionBench; 2]> {
    let mut leaves = attention::AttentionBench { timing: args.timing.clone(), ..defaults()? };
    if args.quick {
        (leaves.history, leaves.actions, leaves.heads, leaves.head_dim) = (8, 4, 2, 16);
    }
    let (history, users) = if args.quick { (8, 4) } else { (64, 64) };
    let causal = attention::AttentionBench { history, users, actions: 0, ..leaves.clone() };
    Ok([leaves, causal])
}

fn label_args(args: &AllBench) -> Result<label::LabelBench> {
    let mut bench = label::LabelBench { timing: args.timing.clone(), ..defaults()? };
    if args.quick {
        (bench.of.layers, bench.of.history, bench.actions, bench.users) = (Some(1), 4, 3, Some(1));
    }
    Ok(bench)
}

fn fit_args(args: &AllBench) -> Result<fit::FitBench> {
    let mut bench = fit::FitBench { timing: args.timing.clone(), ..defaults()? };
    if args.quick {
        (bench.of.layers, bench.of.history, bench.users, bench.negatives) = (Some(1), 4, 1, 2);
    }
    Ok(bench)
}

/// The encoders with the histories that are common for them.
fn train_args(args: &AllBench, encoder: EncoderKind) -> Result<train::TrainBench> {
    let mut bench = train::TrainBench { timing: args.timing.clone(), ..defaults()? };
    bench.of.encoder = encoder;
    if encoder == EncoderKind::Gru4Rec {
        (bench.of.history, bench.of.blocks) = (10, 1);
    }
    if args.quick {
        (bench.of.items, bench.of.history, bench.of.width, bench.users) = (60, 5, 8, 4);
    }
    Ok(bench)
}

fn eval_args(args: &AllBench) -> Result<eval::EvalBench> {
    let mut bench = eval::EvalBench { timing: args.timing.clone(), ..defaults()? };
    bench.of.items = 20_000;
    if args.quick {
        (bench.of.items, bench.of.history, bench.of.width, bench.users) = (60, 5, 8, 8);
    }
    Ok(bench)
}
