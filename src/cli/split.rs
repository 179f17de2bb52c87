//! The flags that say how a data set is split.

use super::config::SplitConfig;
use crate::Result;
use crate::data::{Dataset, Protocol, Split};
use clap::Args;
use std::path::PathBuf;

/// How a data set is split; flags that are given stand over a configuration's `[split]`.
#[derive(Debug, Clone, Default, Args)]
pub struct SplitArgs {
    /// Protocol: sqn (users split 8:1:1) or leave-one-out [default: sqn]
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<Protocol>,
    /// Seed of the split [default: 0]
    #[arg(long, value_name = "N")]
    pub split_seed: Option<u64>,
    /// Stored split, instead of a new one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["protocol", "split_seed"])]
    pub split: Option<PathBuf>,
}

impl SplitArgs {
    /// The split of `data`; what no flag says is taken from `config`.
    ///
    /// # Errors
    /// A stored split that does not belong to the data; fewer than three users.
    pub fn split(&self, data: &Dataset, config: &SplitConfig) -> Result<Split> {
        let protocol = self.protocol.unwrap_or(config.protocol);
        let seed = self.split_seed.unwrap_or(config.seed);
        match &self.split {
            Some(path) => Split::load(path, data),
            None => Split::new(data, protocol, seed, config.le_share),
        }
    }

    /// Whether any flag says how.
    pub fn is_given(&self) -> bool {
        self.protocol.is_some() || self.split_seed.is_some() || self.split.is_some()
    }
}
