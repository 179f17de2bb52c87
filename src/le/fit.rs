//! Step 2: adapters, score head and item tokens, trained jointly on the LE's users.

use super::config::FitConfig;
use super::environment::Environment;
use super::losses::{FitBatch, FitLosses, losses};
use super::negatives::FitNegatives;
use super::trunk::Trunks;
use super::work::{Work, packs};
use crate::autograd::{Param, backward, no_grad};
use crate::device::profile;
use crate::nn::{AdamW, AdamWConfig, Decay, Schedule, StepInfo};
use crate::progress::{MetricsLog, Progress};
use crate::tensor::checkpoint::{Checkpoint, Checkpoints};
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Means over one epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitEpoch {
    /// Counted from 1.
    pub epoch: usize,
    /// L_sm.
    pub state_loss: f64,
    /// L_rm.
    pub reward_loss: f64,
    /// Pairs in the right order, against the negatives trained on.
    pub pair_accuracy: f64,
}

/// What LE training learns from.
pub struct FitData<'a> {
    /// Trunks of the LE's users.
    pub works: &'a [Work],
    /// Training events of every item.
    pub counts: &'a [u32],
    /// Items that a user met in training, ascending.
    pub met: &'a dyn Fn(u32) -> Result<Vec<u32>>,
}

/// Trains `env` in place: its adapters, its head, and its item tokens where they are trainable. The same `env`, data and
/// seed give the same bits, in one go or resumed from the checkpoints that `keep` holds.
pub fn fit(
    env: &Environment,
    data: &FitData,
    config: &FitConfig,
    seed: u64,
    log: &mut MetricsLog,
    keep: &mut Checkpoints,
) -> Result<Vec<FitEpoch>> {
    let negatives = FitNegatives::new(config, data.counts, seed);
    let rows = |w: &Work| w.rows(1 + config.negatives, env.leaf_len(), env.prompt.stem.len());
    if data.works.is_empty() {
        return Err(Error::setting(
            "the LE's users have no step to train on",
            "raise the LE's share of users, or give users with at least two events",
        ));
    }
    // Packs depend on the order, so all epochs are laid out before the schedule is.
    let order = |epoch: usize| {
        let mut works = data.works.to_vec();
        works.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (epoch as u64) << 32));
        let packs = packs(&works, config.batch_tokens, rows);
        (works, packs)
    };
    let total: u64 = (1..=config.epochs).map(|epoch| order(epoch).1.len() as u64).sum();
    let warmup = (total as f64 * config.warmup) as u64;
    let schedule = Schedule { warmup, total, kind: Decay::Cosine, floor: config.lr_floor };
    let mut state = State::new(env, config)?;
    if let Some(checkpoint) = keep.begin(log)? {
        state.restore(&checkpoint)?;
    }
    let mut progress = Progress::new("fit", total, "steps");
    progress.resume(state.place.step);
    while state.place.epochs.len() < config.epochs {
        let epoch = state.place.epochs.len() + 1;
        let (works, packs) = order(epoch);
        for pack in packs.into_iter().skip(state.place.packs) {
            let (works, step) = (&works[pack], state.place.step);
            let drawing = profile::range(|| "negatives".into());
            let drawn = draw(env, data, config, &negatives, works, epoch)?;
            drop(drawing);
            let shared_negatives = negatives.draw_shared(step, config.state_negatives);
            let batch = FitBatch { works, negatives: drawn, shared_negatives, dropout_step: Some(step) };
            let forward = profile::range(|| "forward".into());
            let losses = losses(env, config, &batch)?;
            drop(forward);
            let info = state.step(&losses, schedule.scale(step))?;
            log.write(&json!({
                "step": "fit", "epoch": epoch, "batch": step + 1, "state_loss": losses.state,
                "reward_loss": losses.reward, "pair_accuracy": losses.pair_accuracy, "grad_norm": info.grad_norm,
            }))?;
            progress.message(state.sums.line());
            progress.advance(1);
            let place = || format!("fit, step {} of {total}", state.place.step);
            keep.point(log, place, || state.checkpoint())?;
        }
        state.end_epoch();
    }
    progress.finish();
    // What follows the training (judging and writing the LE) can be interrupted too.
    keep.save(log, state.checkpoint()?)?;
    Ok(state.place.epochs)
}

fn optimiser(env: &Environment, config: &FitConfig) -> Result<AdamW> {
    let adamw = AdamWConfig {
        lr: config.learning_rate,
        weight_decay: config.weight_decay,
        clip_norm: (config.clip_norm > 0.0).then_some(config.clip_norm),
        ..AdamWConfig::default()
    };
    let mut adapters = env.decoder.lora_params();
    adapters.push(env.head.clone());
    let items = vec![env.items.clone()];
    AdamW::new(adapters, adamw)?.with_group(items, config.item_learning_rate / config.learning_rate)
}

/// Negatives of every step of `works`; from the second phase on some of them out of the step's candidates, found
/// with the LE as it stands.
fn draw(
    env: &Environment,
    data: &FitData,
    config: &FitConfig,
    negatives: &FitNegatives,
    works: &[Work],
    epoch: usize,
) -> Result<Vec<Vec<u32>>> {
    let met: Vec<Vec<u32>> = works.iter().map(|w| (data.met)(w.user)).collect::<Result<_>>()?;
    let count = config.hard_candidates.min(env.catalogue());
    let hard = negatives.wants_candidates() && epoch >= config.hard_from && count > 0;
    let candidates = if hard {
        let trunks = Trunks::run(env, works)?;
        let exclude: Vec<Vec<u32>> =
            works.iter().zip(&met).flat_map(|(w, met)| vec![met.clone(); w.steps()]).collect();
        let directions = no_grad(|| env.item_directions(None))?;
        trunks.candidates(env, directions.value(), count, 0, &exclude)?.0
    } else {
        Vec::new()
    };
    let mut drawn = Vec::new();
    for (work, met) in works.iter().zip(&met) {
        for i in 0..work.steps() {
            let from = drawn.len() * count;
            let own = candidates.get(from..from + count).unwrap_or(&[]);
            drawn.push(negatives.draw(work, i, met, epoch as u32, own)?);
        }
    }
    Ok(drawn)
}

/// What training changes.
struct State {
    params: Vec<Param>,
    optimiser: AdamW,
    place: Place,
    /// Of the present epoch.
    sums: Sums,
}

/// How far it has come.
#[derive(Default, Serialize, Deserialize)]
struct Place {
    /// Those that have ended.
    epochs: Vec<FitEpoch>,
    /// Packs of the present one that were trained on.
    packs: usize,
    /// Steps of all epochs.
    step: u64,
}

impl State {
    fn new(env: &Environment, config: &FitConfig) -> Result<Self> {
        let mut params = env.decoder.lora_params();
        params.extend([env.head.clone(), env.items.clone()]);
        params.retain(Param::is_trainable);
        let (place, sums) = (Place::default(), Sums::default());
        Ok(State { params, optimiser: optimiser(env, config)?, place, sums })
    }

    fn step(&mut self, losses: &FitLosses, scale: f64) -> Result<StepInfo> {
        self.sums.add(losses);
        let info = self.optimiser.step(backward(&losses.total)?, scale)?;
        self.place.step += 1;
        self.place.packs += 1;
        Ok(info)
    }

    fn end_epoch(&mut self) {
        self.place.epochs.push(self.sums.epoch(self.place.epochs.len() + 1));
        self.place.packs = 0;
        self.sums = Sums::default();
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let Sums { steps, state, reward, pairs } = self.sums;
        let weights = self.params.iter().map(|param| (param.name().to_string(), param.value()));
        Ok(Checkpoint::new(&self.place)?
            .with_numbers("sums", &[steps, state, reward, pairs])?
            .with_all("weight.", weights)
            .with_all("", self.optimiser.state()?))
    }

    fn restore(&mut self, from: &Checkpoint) -> Result<()> {
        self.place = from.state()?;
        let [steps, state, reward, pairs] = from.numbers("sums")?;
        self.sums = Sums { steps, state, reward, pairs };
        let weight = |param: &Param| {
            let value = param.value();
            from.tensor(&format!("weight.{}", param.name()), value.shape(), value.dtype())
        };
        let weights = self.params.iter().map(weight).collect::<Result<Vec<_>>>()?;
        self.optimiser.load_state(&from.all(""))?;
        self.params.iter().zip(weights).for_each(|(param, value)| param.set(value));
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct Sums {
    steps: f64,
    state: f64,
    reward: f64,
    pairs: f64,
}

impl Sums {
    fn add(&mut self, losses: &FitLosses) {
        let n = losses.steps as f64;
        self.steps += n;
        self.state += losses.state * n;
        self.reward += losses.reward * n;
        self.pairs += losses.pair_accuracy * n;
    }

    fn epoch(&self, epoch: usize) -> FitEpoch {
        let n = self.steps.max(1.0);
        FitEpoch {
            epoch,
            state_loss: self.state / n,
            reward_loss: self.reward / n,
            pair_accuracy: self.pairs / n,
        }
    }

    fn line(&self) -> String {
        let e = self.epoch(0);
        format!("state {:.3} reward {:.3} pairs {:.3}", e.state_loss, e.reward_loss, e.pair_accuracy)
    }
}
