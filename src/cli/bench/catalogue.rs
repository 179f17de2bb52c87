//! `lea bench catalogue`: one user, every item of the catalogue a candidate at every step, random weights. What is
//! measured is that memory stays bounded, and how long it takes.

use crate::autograd::Param;
use crate::cli::measure::peak_rss_mb;
use crate::cli::output;
use crate::data::{Event, Feedback, NegativeKind, NegativeSampler, met_items};
use crate::decoder::{Decoder, DecoderConfig};
use crate::device::{DType, Device};
use crate::le::{Augment, Environment, LabelBlock, LabelConfig, Labeller, Prompt, Work};
use crate::nn::init;
use crate::progress::Progress;
use crate::{Error, Result};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::time::Instant;

/// `lea bench catalogue`.
#[derive(Debug, Args)]
pub struct CatalogueBench {
    /// Items of the catalogue, all of them candidates
    #[arg(long, default_value_t = 200_000)]
    pub items: usize,
    /// Interactions of the user
    #[arg(long, default_value_t = 5000)]
    pub interactions: usize,
    /// Items of a trunk at most
    #[arg(long, default_value_t = 50)]
    pub history: usize,
    /// Stop after so many steps, to estimate the whole
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Width of the decoder, a multiple of 4
    #[arg(long, default_value_t = 16)]
    pub hidden: usize,
    /// Its layers
    #[arg(long, default_value_t = 1)]
    pub layers: usize,
    /// Forest rows a pass
    #[arg(long, default_value_t = 8192)]
    pub pack_tokens: usize,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `lea bench catalogue`.
pub fn run(args: &CatalogueBench) -> Result<()> {
    let sizes = [args.items, args.hidden, args.layers, args.history, args.pack_tokens];
    if sizes.contains(&0) || args.items > 1 << 28 || args.interactions < 2 || !args.hidden.is_multiple_of(4) {
        return Err(Error::setting(
            format!("items {}, interactions {}, hidden {}", args.items, args.interactions, args.hidden),
            "choose at least 1 of each, 2 interactions, and a width that is a multiple of 4",
        ));
    }
    let env = environment(args)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut event = || Event { item: rng.random_range(0..args.items as u32), kind: Feedback::Other };
    let events: Vec<Event> = (0..args.interactions).map(|_| event()).collect();
    let config = LabelConfig {
        negatives: 0,
        candidates: args.items,
        augment: Augment::Both,
        pack_tokens: args.pack_tokens,
        ..LabelConfig::default()
    };
    let before_rss = peak_rss_mb();
    let start = Instant::now();
    let (steps, labels) = label(&env, &config, &events, args.steps.unwrap_or(usize::MAX))?;
    report(args, start.elapsed().as_secs_f64(), (steps, labels), before_rss)
}

/// Labels at most `most` steps of the user; how many, and how many rewards.
fn label(env: &Environment, config: &LabelConfig, events: &[Event], most: usize) -> Result<(usize, u64)> {
    let met = met_items(events);
    let met = |_: u32| Ok(met.clone());
    let negatives = NegativeSampler::new(NegativeKind::Uniform, &vec![1; env.catalogue()], 1);
    let labeller = Labeller::new(env, config, 0.1, negatives, &met)?;
    let before =
        |work: &Work| Ok(events[..work.first_step - work.owned.start].iter().map(|e| e.item).collect());
    let all = events.len() - 1;
    let mut progress = Progress::new("catalogue", most.min(all) as u64, "steps");
    let (mut steps, mut labels) = (0, 0);
    for pack in labeller.packs(Work::of_user(0, events, env.history).into_iter()) {
        let mut sink = |block: &LabelBlock| {
            steps += block.rows();
            progress.advance(block.rows() as u64);
            Ok(())
        };
        labels += labeller.label(&pack, &before, &mut sink)?.labels;
        if steps >= most {
            break;
        }
    }
    progress.finish();
    Ok((steps, labels))
}

fn report(
    args: &CatalogueBench,
    seconds: f64,
    (steps, labels): (usize, u64),
    before_rss: Option<f64>,
) -> Result<()> {
    let rate = labels as f64 / seconds;
    let whole = (args.interactions - 1) as f64 * seconds / steps.max(1) as f64;
    if args.json {
        return output::line(json!({
            "bench": "catalogue",
            "items": args.items,
            "interactions": args.interactions,
            "history": args.history,
            "hidden": args.hidden,
            "layers": args.layers,
            "pack_tokens": args.pack_tokens,
            "device": args.device.describe(),
            "steps": steps,
            "labels": labels,
            "seconds": seconds,
            "labels_per_s": rate,
            "seconds_for_all_steps": whole,
            "rss_before_mb": before_rss,
            "peak_rss_mb": peak_rss_mb(),
        }));
    }
    output::line(format_args!("{steps} steps, {labels} rewards in {seconds:.1} s: {rate:.0} a second"))?;
    output::line(format_args!("all {} steps take about {whole:.0} s", args.interactions - 1))?;
    let shown = |mb: Option<f64>| mb.map_or("unknown".into(), |mb| format!("{mb:.1} MB"));
    output::line(format_args!(
        "peak memory {}, before the first step {}",
        shown(peak_rss_mb()),
        shown(before_rss)
    ))
}

fn environment(args: &CatalogueBench) -> Result<Environment> {
    let config = DecoderConfig {
        hidden_size: args.hidden,
        num_hidden_layers: args.layers,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: args.hidden / 2,
        intermediate_size: 2 * args.hidden,
        vocab_size: 16,
        max_position_embeddings: args.history + 1,
        ..DecoderConfig::default()
    };
    let (device, dtype) = (&args.device, DType::F32);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    Ok(Environment {
        decoder: Decoder::random_as_loaded(config, 7, device)?,
        items: Param::frozen(
            "item_tokens",
            init::normal(&mut rng, 0.02, &[args.items, args.hidden], device, dtype)?,
        ),
        head: Param::frozen("score.weight", init::normal(&mut rng, 0.02, &[args.hidden], device, dtype)?),
        prompt: Prompt::default(),
        history: args.history,
    })
}
