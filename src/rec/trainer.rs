//! Training of one recommender, with early stopping on the validation steps.

mod state;

use super::ahead::ahead;
use super::batch::{UserSteps, epoch_batches, training_users};
use super::config::{Framework, RecConfig};
use super::evaluate::{EvalSteps, evaluate};
use super::feed::Feed;
use super::labels::Labels;
use super::learners::{Learners, StepLosses};
use super::network::Network;
use crate::data::{Dataset, Part, Split};
use crate::device::{Device, profile};
use crate::progress::{MetricsLog, Progress};
use crate::tensor::Tensor;
use crate::tensor::checkpoint::Checkpoints;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::path::Path;
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
/// Every epoch is appended to `log`. The same settings, data and seed give the same bits, whatever the threads, in one
/// go or resumed from the checkpoints that `keep` holds.
///
/// # Errors
/// Senseless settings, labels that are missing or do not fit, no training steps, and gradients that are not finite.
pub fn train(
    config: &RecConfig,
    (data, split): (&Dataset, &Split),
    labels: Option<&Labels>,
    device: &Device,
    log: &mut MetricsLog,
    keep: &mut Checkpoints,
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
    let mut training = Training::new(Learners::new(config, data.items.len(), state_dim, device)?);
    if let Some(checkpoint) = keep.begin(log)? {
        training.restore(&checkpoint)?;
    }

    let start = Instant::now();
    let steps: usize = users.iter().map(UserSteps::steps).sum();
    let name = format!("{} {} {}", config.encoder.name(), config.framework.name(), config.variant_name());
    let passes = config.epochs * training.learners.nets.len();
    training
        .check_warmup((passes * epoch_batches(&users, config.batch_steps, config.seed, 1).len()) as u64)?;
    let mut progress = Progress::new(name, (steps * passes) as u64, "steps");
    progress.resume((training.curve.len() * steps) as u64);
    while !training.is_over() {
        let started = Instant::now();
        training.epoch(&feed, &users, &mut progress, log, keep)?;
        let range = profile::range(|| "validate".into());
        let ranking = evaluate(&training.learners.nets[0].network, &validation);
        drop(range);
        let ranking = keep.keep_if_interrupted(log, ranking, || training.checkpoint())?;
        let record =
            training.losses.record(training.epoch_number(), [ranking.hr(10), ranking.ndcg(10)], started);
        log.write(&serde_json::json!({ "step": "train", "record": record }))?;
        let epoch = record.epoch;
        progress.message(format!("epoch {epoch} loss {:.4} NDCG@10 {:.4}", record.loss, record.ndcg10));
        let score = if validation.is_empty() { epoch as f64 } else { record.ndcg10 };
        training.end_epoch(record, score);
    }
    progress.finish();
    // What follows the training (writing and ranking the recommender) can be interrupted too.
    keep.save(log, training.checkpoint()?)?;
    let Training { learners, curve, best, .. } = training;
    let network = learners.into_first();
    best.restore(&network);
    Ok(Trained { network, curve, best_epoch: best.epoch, seconds: start.elapsed().as_secs_f64() })
}

/// A training under way.
struct Training {
    learners: Learners,
    /// Of the epochs that have ended.
    curve: Vec<EpochRecord>,
    best: Best,
    /// Batches of the present epoch that were trained on.
    batches: usize,
    /// Of those batches.
    losses: Losses,
}

impl Training {
    fn new(learners: Learners) -> Self {
        let (curve, best) = (Vec::new(), Best::default());
        Training { learners, curve, best, batches: 0, losses: Losses::default() }
    }

    /// The present epoch, from 1.
    fn epoch_number(&self) -> usize {
        self.curve.len() + 1
    }

    /// Whether all epochs have run, or patience has. Of two networks each is trained on about half of the batches of a
    /// pass, so that an epoch of both takes two passes.
    fn is_over(&self) -> bool {
        let (config, ended) = (&self.learners.config, self.curve.len());
        let networks = self.learners.nets.len();
        let waited = if self.best.epoch > 0 { ended.saturating_sub(self.best.epoch) } else { 0 };
        ended >= config.epochs * networks || waited >= config.patience * networks
    }

    /// # Errors
    /// SA2C whose advantages would not count within `most` optimiser steps: it would be SNQN under another name.
    fn check_warmup(&self, most: u64) -> Result<()> {
        let config = &self.learners.config;
        if config.framework == Framework::Sa2c && config.advantage_warmup >= most {
            let problem = format!(
                "sa2c: advantages count from step {} on, and training has {most}",
                config.advantage_warmup
            );
            return Err(Error::setting(problem, "lower advantage_warmup, or train for more epochs"));
        }
        Ok(())
    }

    /// Trains on the batches of the present epoch that are left.
    fn epoch(
        &mut self,
        feed: &Feed,
        users: &[UserSteps],
        progress: &mut Progress,
        log: &MetricsLog,
        keep: &mut Checkpoints,
    ) -> Result<()> {
        let (epoch, config) = (self.epoch_number(), &self.learners.config);
        let batches = epoch_batches(users, config.batch_steps, config.seed, epoch as u64);
        let done = batches.iter().take(self.batches).flatten().map(|&i| users[i].steps() as u64).sum();
        progress.resume(done);
        let left = batches.iter().skip(self.batches).map(|batch| (batch, epoch as u32));
        std::thread::scope(|scope| {
            let made = ahead(scope, feed, left);
            loop {
                let waiting = profile::range(|| "batch".into());
                let Ok(data) = made.recv() else { return self.add_losses() };
                let data = data?;
                drop(waiting);
                self.learners.step(&data)?;
                self.batches += 1;
                progress.advance(data.batch.steps() as u64);
                let done = self.batches;
                let place = || format!("training, batch {done} of {} in epoch {epoch}", batches.len());
                keep.point(log, place, || self.checkpoint())?;
            }
        })
    }

    /// Counts the losses of all steps taken.
    fn add_losses(&mut self) -> Result<()> {
        self.learners.losses()?.into_iter().for_each(|step| self.losses.add(step));
        Ok(())
    }

    fn end_epoch(&mut self, record: EpochRecord, score: f64) {
        // Weights that no advantage has touched are SNQN's, and none of them is SA2C's best.
        let config = &self.learners.config;
        if config.framework != Framework::Sa2c || self.learners.step > config.advantage_warmup {
            self.best.offer(score, record.epoch, &self.learners.nets[0].network);
        }
        self.curve.push(record);
        (self.batches, self.losses) = (0, Losses::default());
    }
}

/// The curve of a finished training out of its log at `path`.
///
/// # Errors
/// A file that is no such log.
pub fn read_curve(path: &Path) -> Result<Vec<EpochRecord>> {
    #[derive(Deserialize)]
    struct Line {
        record: EpochRecord,
    }
    let text = files::read_text(path)?;
    let parse = |(i, line): (usize, &str)| {
        let line: Line = serde_json::from_str(line).map_err(|e| {
            Error::invalid(path, format!("line {}", i + 1), e.to_string(), "train the recommender again")
        })?;
        Ok(line.record)
    };
    text.lines().enumerate().map(parse).collect()
}

/// Sums over the optimiser steps of an epoch.
#[derive(Default)]
struct Losses {
    count: f64,
    sums: [f64; 3],
}

impl Losses {
    fn add(&mut self, step: StepLosses) {
        self.count += 1.0;
        self.sums.iter_mut().zip([step.loss, step.supervised, step.q]).for_each(|(sum, x)| *sum += x);
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
