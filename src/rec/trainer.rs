//! Training of one recommender, with early stopping on the validation steps.

use super::batch::{UserSteps, epoch_batches, training_users};
use super::config::RecConfig;
use super::evaluate::{EvalSteps, evaluate};
use super::feed::Feed;
use super::labels::Labels;
use super::network::Network;
use super::noise::Noise;
use super::objective::objective;
use crate::autograd::backward;
use crate::data::{Dataset, Part, Split};
use crate::device::{DType, Device};
use crate::nn::{AdamW, AdamWConfig};
use crate::progress::{MetricsLog, Progress};
use crate::tensor::Tensor;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Figures of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean of the losses of its optimiser steps.
    pub loss: f64,
    /// Of which the cross-entropy of the observed actions.
    pub supervised_loss: f64,
    /// Of which the Q-losses, weighted.
    pub q_loss: f64,
    /// HR@10 on the validation steps.
    pub hr10: f64,
    /// NDCG@10 on the validation steps.
    pub ndcg10: f64,
    /// Seconds that it took, validation included.
    pub seconds: f64,
}

/// A trained recommender.
pub struct Trained {
    /// The network with the best weights.
    pub network: Network,
    /// One record an epoch.
    pub curve: Vec<EpochRecord>,
    /// Epoch of the best weights, from 1.
    pub best_epoch: usize,
    /// Seconds of the whole training.
    pub seconds: f64,
}

/// Trains a recommender of `config` on the training steps of `split`. With a Q head two networks are trained, one of
/// them at every step while the other values states; which is which is drawn at random, and the first is kept.
/// The weights of the epoch with the best validation NDCG@10 are kept, or the last where nothing can be validated.
///
/// Every epoch is appended to `log`. The same settings, data and seed give the same bits, whatever the threads.
///
/// # Errors
/// Senseless settings, labels that are missing or do not fit, no training steps, and gradients that are not finite.
pub fn train(
    config: &RecConfig,
    (data, split): (&Dataset, &Split),
    labels: Option<&Labels>,
    device: &Device,
    log: &mut MetricsLog,
) -> Result<Trained> {
    config.validate()?;
    let users = training_users(data, split);
    if users.is_empty() {
        return Err(Error::setting(
            format!("{} leaves no step to train on", data.name),
            "give users with at least two events, or another protocol",
        ));
    }
    let feed = Feed::new(config, &users, data.items.len(), labels)?;
    let validation = EvalSteps::new(data, split, Part::Validation, config.history);
    let state_dim = labels.map_or(0, |labels| labels.state_dim);
    let mut learners = Learners::new(config, data.items.len(), state_dim, device)?;

    let (start, mut best) = (Instant::now(), Best::default());
    let mut curve = Vec::new();
    let steps: usize = users.iter().map(UserSteps::steps).sum();
    let name = format!("{} {} {}", config.encoder.name(), config.framework.name(), config.variant_name());
    let mut progress = Progress::new(name, (steps * config.epochs) as u64, "steps");
    for epoch in 1..=config.epochs {
        let started = Instant::now();
        let losses = learners.epoch(&feed, &users, epoch, &mut progress)?;
        let ranking = evaluate(&learners.nets[0].network, &validation)?;
        let record = losses.record(epoch, [ranking.hr(10), ranking.ndcg(10)], started);
        log.write(&serde_json::json!({ "stage": "train", "record": record }))?;
        progress.message(format!("epoch {epoch} loss {:.4} NDCG@10 {:.4}", record.loss, record.ndcg10));
        let score = if validation.is_empty() { epoch as f64 } else { record.ndcg10 };
        curve.push(record);
        best.offer(score, epoch, &learners.nets[0].network);
        if epoch - best.epoch >= config.patience {
            break;
        }
    }
    progress.finish();
    let network = learners.into_first();
    best.restore(&network);
    Ok(Trained { network, curve, best_epoch: best.epoch, seconds: start.elapsed().as_secs_f64() })
}

/// One network and its optimiser.
struct Learner {
    network: Network,
    optimiser: AdamW,
}

/// The one or two networks of a training.
struct Learners {
    nets: Vec<Learner>,
    config: RecConfig,
    /// Optimiser steps taken.
    step: u64,
    /// Draws the network that is trained next.
    roles: ChaCha8Rng,
}

impl Learners {
    fn new(config: &RecConfig, items: usize, state_dim: usize, device: &Device) -> Result<Self> {
        let learner = |index: u64| -> Result<Learner> {
            let seed = config.seed.wrapping_mul(2).wrapping_add(index);
            let network = Network::new(config, items, state_dim, (device, DType::F32), seed)?;
            let settings = AdamWConfig {
                lr: config.learning_rate,
                weight_decay: config.weight_decay,
                clip_norm: (config.clip_norm > 0.0).then_some(config.clip_norm),
                ..AdamWConfig::default()
            };
            Ok(Learner { optimiser: AdamW::new(network.params(), settings)?, network })
        };
        let count = if config.framework.has_q() { 2 } else { 1 };
        let nets = (0..count).map(learner).collect::<Result<_>>()?;
        let mut roles = ChaCha8Rng::seed_from_u64(config.seed);
        roles.set_stream(u64::MAX);
        Ok(Learners { nets, config: config.clone(), step: 0, roles })
    }

    fn epoch(
        &mut self,
        feed: &Feed,
        users: &[UserSteps],
        epoch: usize,
        progress: &mut Progress,
    ) -> Result<Losses> {
        let mut losses = Losses::default();
        for batch in epoch_batches(users, self.config.batch_steps, self.config.seed, epoch as u64) {
            let data = feed.step(&batch, epoch as u32)?;
            let main = if self.nets.len() == 2 { self.roles.random_range(0..2) } else { 0 };
            let other = self.nets.get(1 - main).map(|learner| &learner.network);
            let noise = Noise::new(self.config.dropout, self.config.seed, self.step);
            let objective = objective(&self.nets[main].network, other, &data, &noise, self.step)?;
            let loss = objective.loss.value().item()?;
            losses.add(loss, objective.supervised, objective.q);
            let grads = backward(&objective.loss)?;
            // Frees the tape, which shares the parameters: they are then updated in place.
            drop(objective);
            self.nets[main].optimiser.step(grads, 1.0)?;
            self.step += 1;
            progress.advance(data.batch.steps() as u64);
        }
        Ok(losses)
    }

    fn into_first(mut self) -> Network {
        self.nets.swap_remove(0).network
    }
}

/// Sums over the optimiser steps of an epoch.
#[derive(Default)]
struct Losses {
    count: f64,
    sums: [f64; 3],
}

impl Losses {
    fn add(&mut self, loss: f64, supervised: f64, q: f64) {
        self.count += 1.0;
        self.sums.iter_mut().zip([loss, supervised, q]).for_each(|(sum, x)| *sum += x);
    }

    fn record(&self, epoch: usize, [hr10, ndcg10]: [f64; 2], started: Instant) -> EpochRecord {
        let [loss, supervised_loss, q_loss] = self.sums.map(|sum| sum / self.count);
        let seconds = started.elapsed().as_secs_f64();
        EpochRecord { epoch, loss, supervised_loss, q_loss, hr10, ndcg10, seconds }
    }
}

/// The best weights so far.
#[derive(Default)]
struct Best {
    epoch: usize,
    score: f64,
    weights: Vec<Tensor>,
}

impl Best {
    fn offer(&mut self, score: f64, epoch: usize, network: &Network) {
        if self.epoch == 0 || score > self.score {
            let weights = network.params().iter().map(|param| param.value()).collect();
            *self = Best { epoch, score, weights };
        }
    }

    fn restore(&self, network: &Network) {
        network.params().iter().zip(&self.weights).for_each(|(param, value)| param.set(value.clone()));
    }
}
