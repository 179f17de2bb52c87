//! The networks of a training, their optimisers, and one step of them.

use super::config::RecConfig;
use super::feed::StepData;
use super::network::Network;
use super::noise::Noise;
use super::objective::objective;
use crate::Result;
use crate::autograd::backward;
use crate::device::{DType, Device, profile};
use crate::nn::{AdamW, AdamWConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One network and its optimiser.
pub(super) struct Learner {
    pub(super) network: Network,
    pub(super) optimiser: AdamW,
}

/// The one or two networks of a training.
pub struct Learners {
    pub(super) nets: Vec<Learner>,
    pub(super) config: RecConfig,
    /// Optimiser steps taken.
    pub(super) step: u64,
    /// Draws the network that is trained next.
    pub(super) roles: ChaCha8Rng,
}

/// The loss of one optimiser step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLosses {
    /// All of it.
    pub loss: f64,
    /// Of which the cross-entropy of the observed actions.
    pub supervised: f64,
    /// Of which the Q-losses, weighted.
    pub q: f64,
}

impl Learners {
    /// New networks over `items` items, two where there is a Q head. `state_dim` is the width of the LE's states, for a
    /// configuration that reads them.
    ///
    /// # Errors
    /// Senseless settings; the LE's state switched on, and no width of states.
    pub fn new(config: &RecConfig, items: usize, state_dim: usize, device: &Device) -> Result<Self> {
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

    /// One optimiser step, of a network that is drawn.
    ///
    /// # Errors
    /// Gradients that are not finite.
    pub fn step(&mut self, data: &StepData) -> Result<StepLosses> {
        let main = if self.nets.len() == 2 { self.roles.random_range(0..2) } else { 0 };
        let other = self.nets.get(1 - main).map(|learner| &learner.network);
        let noise = Noise::new(self.config.dropout, self.config.seed, self.step);
        let forward = profile::range(|| "forward".into());
        let objective = objective(&self.nets[main].network, other, data, &noise, self.step)?;
        let loss = objective.loss.value().item()?;
        let losses = StepLosses { loss, supervised: objective.supervised, q: objective.q };
        drop(forward);
        let grads = backward(&objective.loss)?;
        // Frees the tape, which shares the parameters: they are then updated in place.
        drop(objective);
        self.nets[main].optimiser.step(grads, 1.0)?;
        self.step += 1;
        Ok(losses)
    }

    /// The network that is kept.
    pub fn into_first(mut self) -> Network {
        self.nets.swap_remove(0).network
    }
}
