//! The networks of a training, their optimisers, and one step of them.

use super::config::RecConfig;
use super::feed::StepData;
use super::network::Network;
use super::noise::Noise;
use super::objective::{Objective, objective};
use crate::Result;
use crate::autograd::backward;
use crate::device::{DType, Device, profile};
use crate::nn::{AdamW, AdamWConfig, Submitted};
use crate::ops::read_together;
use crate::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps whose losses are read together: a device is not waited for in every step.
const READ_TOGETHER: usize = 16;

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
    /// Steps whose losses nobody has read yet.
    pending: Vec<Pending>,
    /// Losses that were read and not asked for yet, in the order of the steps.
    read: Vec<StepLosses>,
}

/// What a step leaves on its device.
struct Pending {
    loss: Tensor,
    supervised: Tensor,
    q: Option<Tensor>,
    update: Submitted,
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
        let (pending, read) = (Vec::new(), Vec::new());
        Ok(Learners { nets, config: config.clone(), step: 0, roles, pending, read })
    }

    /// One optimiser step, of a network that is drawn. A device may still be at work on it, and on some before it, when this
    /// returns; [`Learners::losses`] waits.
    ///
    /// # Errors
    /// Gradients that are not finite, of this step or of one before it. Such a step updates nothing.
    pub fn step(&mut self, data: &StepData) -> Result<()> {
        let main = if self.nets.len() == 2 { self.roles.random_range(0..2) } else { 0 };
        let other = self.nets.get(1 - main).map(|learner| &learner.network);
        let noise = Noise::new(self.config.dropout, self.config.seed, self.step);
        let forward = profile::range(|| "forward".into());
        let objective = objective(&self.nets[main].network, other, data, &noise, self.step)?;
        drop(forward);
        let grads = backward(&objective.loss)?;
        // Frees the tape, which shares the parameters: they are then updated in place.
        let Objective { loss, supervised, q } = objective;
        let loss = loss.into_value();
        let update = self.nets[main].optimiser.submit(grads, 1.0)?;
        self.step += 1;
        self.pending.push(Pending { loss, supervised, q, update });
        if self.pending.len() >= READ_TOGETHER { self.read_pending() } else { Ok(()) }
    }

    /// The losses of the steps since they were last asked for, in their order. Waits for a device.
    ///
    /// # Errors
    /// Gradients of one of those steps that were not finite.
    pub fn losses(&mut self) -> Result<Vec<StepLosses>> {
        self.read_pending()?;
        Ok(std::mem::take(&mut self.read))
    }

    fn read_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        Submitted::infos(&pending.iter().map(|step| &step.update).collect::<Vec<_>>())?;
        let mut tensors = Vec::new();
        for step in &pending {
            tensors.extend([&step.loss, &step.supervised]);
            tensors.extend(&step.q);
        }
        let values: Vec<f64> = read_together(&tensors)?.into_iter().flatten().collect();
        // Either all steps have a Q-loss or none has.
        let each = if pending.iter().all(|step| step.q.is_some()) { 3 } else { 2 };
        let losses = |step: &[f64]| StepLosses {
            loss: step[0],
            supervised: step[1],
            q: step.get(2).copied().unwrap_or(0.0),
        };
        self.read.extend(values.chunks_exact(each).map(losses));
        Ok(())
    }

    /// The network that is kept.
    pub fn into_first(mut self) -> Network {
        self.nets.swap_remove(0).network
    }
}
