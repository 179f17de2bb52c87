//! What a training needs to go on with the same bits.

use super::{Best, EpochRecord, Losses, Training};
use crate::Result;
use crate::autograd::Param;
use crate::rec::learners::Learner;
use crate::tensor::Tensor;
use crate::tensor::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

/// The counters.
#[derive(Debug, Serialize, Deserialize)]
struct Counters {
    curve: Vec<EpochRecord>,
    batches: usize,
    /// Optimiser steps.
    step: u64,
    /// Position of the stream that draws roles, in words; text, for JSON has no whole numbers of 128 bits.
    roles: String,
    best_epoch: usize,
}

impl Training {
    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint> {
        self.add_losses()?;
        let counters = Counters {
            curve: self.curve.clone(),
            batches: self.batches,
            step: self.learners.step,
            roles: self.learners.roles.get_word_pos().to_string(),
            best_epoch: self.best.epoch,
        };
        let [loss, supervised, q] = self.losses.sums;
        let mut checkpoint = Checkpoint::new(&counters)?
            .with_numbers("sums", &[self.losses.count, loss, supervised, q, self.best.score])?;
        for (i, Learner { network, optimiser }) in self.learners.nets.iter().enumerate() {
            let weights = network.params().into_iter().map(|p| (p.name().to_string(), p.value()));
            checkpoint = checkpoint
                .with_all(&format!("{i}.weight."), weights)
                .with_all(&format!("{i}."), optimiser.state()?);
        }
        let names = self.learners.nets[0].network.params().into_iter().map(|p| p.name().to_string());
        Ok(checkpoint.with_all("best.", names.zip(self.best.weights.iter().cloned())))
    }

    pub(super) fn restore(&mut self, from: &Checkpoint) -> Result<()> {
        let counters: Counters = from.state()?;
        let [count, loss, supervised, q, score] = from.numbers("sums")?;
        let roles = counters.roles.parse().map_err(|_| from.damaged_state("roles is no number"))?;
        for (i, Learner { network, optimiser }) in self.learners.nets.iter_mut().enumerate() {
            let params = network.params();
            let weights = weights(from, &format!("{i}.weight."), &params)?;
            optimiser.load_state(&from.all(&format!("{i}.")))?;
            params.iter().zip(weights).for_each(|(param, value)| param.set(value));
        }
        let best = match counters.best_epoch {
            0 => Vec::new(),
            _ => weights(from, "best.", &self.learners.nets[0].network.params())?,
        };
        self.best = Best { epoch: counters.best_epoch, score, weights: best };
        self.losses = Losses { count, sums: [loss, supervised, q] };
        self.learners.step = counters.step;
        self.learners.roles.set_word_pos(roles);
        self.batches = counters.batches;
        self.curve = counters.curve;
        Ok(())
    }
}

fn weights(from: &Checkpoint, prefix: &str, params: &[Param]) -> Result<Vec<Tensor>> {
    let read = |param: &Param| {
        let value = param.value();
        from.tensor(&format!("{prefix}{}", param.name()), value.shape(), value.dtype())
    };
    params.iter().map(read).collect()
}
