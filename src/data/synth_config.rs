//! Sizes of the synthetic data set, apart from what makes it, so that a data set on disk can record them.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Fewest events of a synthetic user.
pub(super) const SHORTEST: usize = 4;

/// Sizes of the synthetic data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Number of items, 50 to 100,000.
    pub items: usize,
    /// Number of users.
    pub users: usize,
    /// Mean events a user, more than 4.
    pub mean_length: f64,
    /// Seed of everything drawn.
    pub seed: u64,
}

impl Default for SynthConfig {
    fn default() -> Self {
        SynthConfig { items: 800, users: 1600, mean_length: 12.0, seed: 1 }
    }
}

impl SynthConfig {
    /// Refuses sizes out of range, by name.
    pub(super) fn check(&self) -> Result<()> {
        if !(50..=100_000).contains(&self.items) {
            let problem = format!("a synthetic catalogue of {} items", self.items);
            return Err(Error::setting(problem, "choose 50 to 100000 items"));
        }
        if self.users == 0 || u32::try_from(self.users).is_err() {
            return Err(Error::setting(
                format!("{} synthetic users", self.users),
                "choose 1 to 4294967295 users",
            ));
        }
        if !(self.mean_length > SHORTEST as f64 && self.mean_length <= self.items as f64 / 4.0) {
            let problem = format!("a mean length of {} events for {} items", self.mean_length, self.items);
            return Err(Error::setting(problem, "choose one above 4 and at most a quarter of the items"));
        }
        Ok(())
    }
}
