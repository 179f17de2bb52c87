//! A data set together with how it came to be.

use super::dataset::Dataset;
use super::filters::{FilterReport, Filters};
use super::read::ReadReport;
use super::synth_config::SynthConfig;
use crate::files::FileHash;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A data set and how it came to be.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The data set after the filters.
    pub dataset: Dataset,
    /// What happened when it was read.
    pub read: ReadReport,
    /// The filters applied.
    pub filters: Filters,
    /// What they dropped.
    pub dropped: FilterReport,
    /// The files read; none if the data was made.
    pub sources: Vec<FileHash>,
    /// Where those lie; [`save`](super::save) writes nothing beside them.
    pub paths: Vec<PathBuf>,
    /// The configuration of a synthetic data set.
    pub synthetic: Option<SynthConfig>,
    /// Of `dataset`, once it was asked for.
    pub(super) hash: OnceLock<String>,
}

impl Loaded {
    /// A data set that was made by [`synthesise`](super::synthesise).
    pub(super) fn made(dataset: Dataset, config: SynthConfig) -> Self {
        Loaded {
            dataset,
            read: ReadReport::default(),
            filters: Filters::default(),
            dropped: FilterReport::default(),
            sources: Vec::new(),
            paths: Vec::new(),
            synthetic: Some(config),
            hash: OnceLock::new(),
        }
    }

    /// [`Dataset::hash`], made once: `dataset` is not changed after it is loaded.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| self.dataset.hash())
    }

    /// What was dropped on the way, a line a reason; empty if nothing was.
    pub fn dropped_lines(&self) -> Vec<String> {
        self.read.dropped().into_iter().chain(self.dropped.line()).collect()
    }
}
