//! Dropout of one forward pass, reproducible from a seed for any number of threads.

use crate::Result;
use crate::autograd::{Var, apply};
use crate::ops::Dropout;
use std::cell::Cell;

/// Hands every dropout of a forward pass a stream of its own.
#[derive(Debug)]
pub struct Noise {
    p: f64,
    seed: u64,
    next: Cell<u64>,
}

impl Noise {
    /// No dropout: evaluation.
    pub fn none() -> Self {
        Noise::new(0.0, 0, 0)
    }

    /// Dropout with probability `p`; a run's `seed` and the optimiser `step` decide every mask.
    pub fn new(p: f64, seed: u64, step: u64) -> Self {
        // One forward pass has far fewer than 2^16 dropouts.
        Noise { p, seed, next: Cell::new(step << 16) }
    }

    /// `x` with elements dropped, and the rest scaled up.
    pub fn apply(&self, x: Var) -> Result<Var> {
        if self.p == 0.0 {
            return Ok(x);
        }
        let counter = self.next.replace(self.next.get() + 1);
        apply(Dropout { p: self.p, seed: self.seed, counter }, &[&x])
    }
}
