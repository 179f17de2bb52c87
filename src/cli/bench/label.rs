//! `lea bench label`: rewards of given actions at every step of synthetic histories, random weights.

use super::ceiling::{Ceiling, median, peak_rss_mb};
use crate::autograd::Param;
use crate::autograd::counter;
use crate::cli::output;
use crate::decoder::{Decoder, DecoderConfig};
use crate::device::webgpu::Counters;
use crate::device::{DType, Device, profile};
use crate::le::score::rewards;
use crate::le::separate::separate_rewards;
use crate::le::trunk::Trunks;
use crate::le::{Environment, Prompt, Work};
use crate::nn::init;
use crate::report::{kernel_table, write_trace};
use crate::{Error, Result};
use clap::{Args, ValueEnum};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Decoder shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Hidden 288, 6 layers, 6 heads, FFN 768
    Tiny,
    /// Hidden 576, 30 layers, 9 heads over 3, FFN 1536
    Small,
    /// That of Llama 3.2 1B: hidden 2048, 16 layers, 32 heads over 8, FFN 8192
    #[value(name = "llama-1b")]
    Llama1b,
    /// That of Llama 2 7B: hidden 4096, 32 layers, 32 heads, FFN 11008
    #[value(name = "llama-7b")]
    Llama7b,
}

/// `lea bench label`.
#[derive(Debug, Args)]
pub struct LabelBench {
    /// Decoder shape
    #[arg(long, value_enum, default_value = "tiny")]
    pub shape: Shape,
    /// Its layers, where fewer than the shape's are to run
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// Items of every history
    #[arg(long, default_value_t = 50)]
    pub history: usize,
    /// Actions scored at every step
    #[arg(long, default_value_t = 100)]
    pub actions: usize,
    /// Tokens of the prompt ahead of the history
    #[arg(long, default_value_t = 8)]
    pub prompt: usize,
    /// Tokens of the separator between history and action
    #[arg(long, default_value_t = 4)]
    pub separator: usize,
    /// Tokens of the text after an action
    #[arg(long, default_value_t = 1)]
    pub closing: usize,
    /// Users labelled; each is timed by itself
    #[arg(long, default_value_t = 8)]
    pub users: usize,
    /// Forest rows a pass
    #[arg(long, default_value_t = 8192)]
    pub pack_tokens: usize,
    /// Run every prompt by itself, packed into passes of the same number of rows
    #[arg(long)]
    pub no_forest: bool,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Run one more user with every kernel timed: a table of them goes to standard error, a trace for ui.perfetto.dev into
    /// this file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

const CATALOGUE: usize = 1000;
const VOCABULARY: usize = 512;

/// Runs `lea bench label`.
pub fn run(args: &LabelBench) -> Result<()> {
    if args.history == 0
        || args.actions == 0
        || args.actions > CATALOGUE
        || args.users == 0
        || args.layers == Some(0)
    {
        return Err(Error::setting(
            format!("history {}, actions {}, users {}", args.history, args.actions, args.users),
            format!("choose at least 1 of each, and at most {CATALOGUE} actions"),
        ));
    }
    let env = environment(args)?;
    let mut ceiling = Ceiling::new(&args.device)?;
    label_user(&env, args, 0)?;
    let (mut seconds, mut flops, mut rows) = (Vec::new(), 0, 0);
    let mut launches = Vec::new();
    for user in 0..args.users {
        ceiling.measure()?;
        let before = args.device.launches();
        let start = Instant::now();
        let (user_rows, cost) = counter::count(|| label_user(&env, args, user));
        seconds.push(start.elapsed().as_secs_f64());
        flops = cost.flops;
        rows = user_rows?;
        launches.extend(args.device.launches().zip(before).map(|(after, before)| after.since(before)));
    }
    ceiling.measure()?;
    if let Some(path) = &args.trace {
        let ((), profile) = profile::record(&args.device, || label_user(&env, args, 0).map(|_| ()))?;
        eprint!("{}", kernel_table(&profile).to_text());
        write_trace(path, &args.device.describe(), &profile)?;
    }
    report(args, &seconds, rows, flops, ceiling.gflops(), launches.last().copied())
}

fn report(
    args: &LabelBench,
    seconds: &[f64],
    rows: u64,
    flops: u64,
    ceiling: f64,
    launches: Option<Counters>,
) -> Result<()> {
    let labels = (args.history * args.actions) as f64;
    let middle = median(seconds);
    let gflops = flops as f64 / middle / 1e9;
    let record = json!({
        "bench": "label",
        "shape": args.shape.to_possible_value().map(|value| value.get_name().to_string()),
        "layers": shape(args).1,
        "history": args.history,
        "actions": args.actions,
        "prompt": args.prompt,
        "separator": args.separator,
        "closing": args.closing,
        "users": args.users,
        "forest": !args.no_forest,
        "device": args.device.describe(),
        "labels_per_s": labels / middle,
        "tokens_per_label": rows as f64 / labels,
        "gflops": gflops,
        "ceiling_gflops": ceiling,
        "share_of_ceiling": gflops / ceiling,
        "seconds_per_user": middle,
        "seconds_min": seconds.iter().copied().fold(f64::INFINITY, f64::min),
        "seconds_max": seconds.iter().copied().fold(0.0, f64::max),
        "peak_rss_mb": peak_rss_mb(),
        "dispatches": launches.map(|l| l.dispatches),
        "submits": launches.map(|l| l.submits),
        "read_backs": launches.map(|l| l.read_backs),
    });
    if args.json {
        return output::line(&record);
    }
    let kind = if args.no_forest { "separate prompts" } else { "forest" };
    output::line(format_args!("{} on {}", kind, args.device.describe()))?;
    output::line(format_args!(
        "{:.0} labels/s, {:.2} tokens a label",
        labels / middle,
        rows as f64 / labels
    ))?;
    let share = 100.0 * gflops / ceiling;
    output::line(format_args!("{gflops:.1} GFLOP/s, {share:.0} % of the {ceiling:.1} of a 2048³ product"))?;
    match launches {
        None => Ok(()),
        Some(l) => output::line(format_args!(
            "{} dispatches in {} submits and {} read-backs a user",
            l.dispatches, l.submits, l.read_backs
        )),
    }
}

/// Width, layers, query and key heads, FFN.
fn shape(args: &LabelBench) -> (usize, usize, usize, usize, usize) {
    let (hidden, layers, heads, kv_heads, ffn) = match args.shape {
        Shape::Tiny => (288, 6, 6, 6, 768),
        Shape::Small => (576, 30, 9, 3, 1536),
        Shape::Llama1b => (2048, 16, 32, 8, 8192),
        Shape::Llama7b => (4096, 32, 32, 32, 11_008),
    };
    (hidden, args.layers.unwrap_or(layers), heads, kv_heads, ffn)
}

fn environment(args: &LabelBench) -> Result<Environment> {
    let (hidden_size, layers, heads, kv_heads, ffn) = shape(args);
    let config = DecoderConfig {
        hidden_size,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim: hidden_size / heads,
        intermediate_size: ffn,
        vocab_size: VOCABULARY,
        max_position_embeddings: args.prompt + args.history + args.separator + args.closing + 1,
        ..DecoderConfig::default()
    };
    let (device, dtype) = (&args.device, DType::F32);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let text = |len: usize| (0..len).map(|i| (i % VOCABULARY) as u32).collect();
    Ok(Environment {
        decoder: Decoder::random(config, 7, device, dtype, false)?.as_loaded()?,
        items: Param::frozen(
            "item_tokens",
            init::normal(&mut rng, 0.02, &[CATALOGUE, hidden_size], device, dtype)?,
        ),
        head: Param::frozen("score.weight", init::normal(&mut rng, 0.02, &[hidden_size], device, dtype)?),
        prompt: Prompt { root: text(args.prompt), stem: text(args.separator), closing: text(args.closing) },
        history: args.history,
    })
}

/// Scores all actions of one user; returns the rows that ran.
fn label_user(env: &Environment, args: &LabelBench, user: usize) -> Result<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(user as u64);
    let item = |rng: &mut ChaCha8Rng| rng.random_range(0..CATALOGUE as u32);
    let history: Vec<u32> = (0..args.history).map(|_| item(&mut rng)).collect();
    let actions: Vec<(usize, u32)> =
        (0..args.history * args.actions).map(|i| (i / args.actions, item(&mut rng))).collect();
    let work =
        Work { user: user as u32, owned: 0..args.history, first_step: 0, actions: history.clone(), history };
    let (scores, rows) = if args.no_forest {
        separate_rewards(env, &work.history, &actions, args.pack_tokens)?
    } else {
        let trunks = Trunks::run(env, std::slice::from_ref(&work))?;
        let scores = rewards(env, &trunks, &actions, args.pack_tokens)?;
        (scores, (trunks.forest.rows() + actions.len() * env.leaf_len()) as u64)
    };
    if scores.len() != actions.len() || scores.iter().any(|s| !s.is_finite()) {
        return Err(Error::shape(
            "bench label",
            format!("{} scores for {} actions", scores.len(), actions.len()),
        ));
    }
    Ok(rows)
}
