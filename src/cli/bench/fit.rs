//! `lea bench fit`: one optimiser step of the LE's training on synthetic histories, random weights: forward, backward, update.

use super::decoder::{CATALOGUE, EnvironmentArgs};
use super::harness::{Case, Timing};
use super::record::Record;
use crate::autograd::backward;
use crate::decoder::LoraConfig;
use crate::le::{Environment, FitBatch, FitConfig, Work, losses};
use crate::nn::{AdamW, AdamWConfig};
use crate::{Error, Result};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// `lea bench fit`.
#[derive(Clone, Debug, Args)]
pub struct FitBench {
    /// Decoder and prompt
    #[command(flatten)]
    pub of: EnvironmentArgs,
    /// Users in one step
    #[arg(long, default_value_t = 2)]
    pub users: usize,
    /// Negatives of the reward loss at every step of a history
    #[arg(long, default_value_t = 4)]
    pub negatives: usize,
    /// Rank of the adapters of q_proj and v_proj
    #[arg(long, default_value_t = 8)]
    pub lora_rank: usize,
    /// Run layers again in the backward pass, for less memory
    #[arg(long)]
    pub checkpoint: bool,
    /// How it is timed; a sample is a step
    #[command(flatten)]
    pub timing: Timing,
}

/// Measures a step.
pub fn measure(args: &FitBench) -> Result<Record> {
    args.of.check()?;
    if args.users == 0 || !(1..=CATALOGUE).contains(&args.negatives) {
        return Err(Error::setting(
            format!("users {}, negatives {}", args.users, args.negatives),
            format!("choose at least 1 of each, and at most {CATALOGUE} negatives"),
        ));
    }
    let device = &args.timing.device;
    let lora = LoraConfig { rank: args.lora_rank, ..LoraConfig::default() };
    let config = FitConfig { lora, negatives: args.negatives, ..FitConfig::default() };
    let mut env = args.of.environment(device, true)?;
    env.decoder.add_lora(&config.lora, 7)?;
    env.decoder.checkpoint = args.checkpoint;
    let mut params = env.decoder.lora_params();
    params.extend([env.head.clone(), env.items.clone()]);
    let adamw =
        AdamWConfig { lr: config.learning_rate, clip_norm: Some(config.clip_norm), ..AdamWConfig::default() };
    let mut optimiser = AdamW::new(params, adamw)?;
    let own = json!({
        "users": args.users, "negatives": args.negatives, "lora_rank": args.lora_rank,
        "checkpoint": args.checkpoint, "dtype": device.frozen_type().to_string(),
    });
    let record = args.timing.measure(Case {
        bench: "fit",
        settings: args.of.settings(own),
        inputs: "items and negatives uniform over a catalogue of 1000, weights normal with deviation 0.02",
        unit: "step",
        frozen: true,
        run: Box::new(|number| step(&env, args, &config, &mut optimiser, number as u64)),
    })?;
    let users = args.users as f64;
    Ok(record.rate("users_per_s", users).rate("steps_per_s", 1.0))
}

fn step(
    env: &Environment,
    args: &FitBench,
    config: &FitConfig,
    optimiser: &mut AdamW,
    number: u64,
) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut items =
        |count: usize| -> Vec<u32> { (0..count).map(|_| rng.random_range(0..CATALOGUE as u32)).collect() };
    let history = args.of.history;
    let works: Vec<Work> = (0..args.users as u32)
        .map(|user| Work {
            user,
            history: items(history),
            owned: 0..history,
            first_step: 0,
            actions: items(history),
        })
        .collect();
    let batch = FitBatch {
        works: &works,
        negatives: (0..args.users * history).map(|_| items(args.negatives)).collect(),
        // Fewer than are asked for by default: the whole catalogue.
        shared_negatives: (0..CATALOGUE as u32).collect(),
        dropout_step: Some(number),
    };
    let losses = losses(env, config, &batch)?;
    let grads = backward(&losses.total)?;
    // Frees the tape, which shares the parameters: they are then updated in place.
    drop(losses);
    optimiser.step(grads, 1.0).map(drop)
}
