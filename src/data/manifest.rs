//! `dataset.json` of an imported folder: counts, hashes, and where the data came from.

use super::dataset::{Dataset, TextSource};
use super::filters::{FilterReport, Filters};
use super::read::ReadReport;
use super::synth_config::SynthConfig;
use crate::files::{self, FileHash};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(super) const FORMAT: &str = "lea-dataset-1";
pub(super) const MANIFEST: &str = "dataset.json";

/// `dataset.json` of an imported folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: String,
    pub(super) name: String,
    pub(super) users: usize,
    pub(super) items: usize,
    pub(super) interactions: usize,
    pub(super) text: TextSource,
    pub(super) hash: String,
    pub(super) interactions_hash: String,
    #[serde(default)]
    pub(super) read: ReadReport,
    pub(super) filters: Filters,
    pub(super) dropped: FilterReport,
    pub(super) sources: Vec<FileHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) synthetic: Option<SynthConfig>,
}

/// The manifest at `path`, or `None` without one.
pub(super) fn read_manifest(path: &Path) -> Result<Option<Manifest>> {
    if !path.is_file() {
        return Ok(None);
    }
    let remedy = "import the data again";
    let manifest: Manifest = serde_json::from_str(&files::read_text(path)?)
        .map_err(|e| Error::invalid(path, format!("line {}", e.line()), e.to_string(), remedy))?;
    if manifest.format != FORMAT {
        let problem = format!("{:?} where {FORMAT:?} is expected", manifest.format);
        return Err(Error::invalid(path, "format", problem, remedy));
    }
    Ok(Some(manifest))
}

/// Refuses tables that are not those the manifest at `path` was written for.
pub(super) fn check_hashes(path: &Path, manifest: &Manifest, dataset: &Dataset) -> Result<()> {
    let same_text = manifest.text == dataset.text;
    let matches = manifest.interactions_hash == dataset.interactions_hash();
    if matches && (!same_text || manifest.hash == dataset.hash()) {
        return Ok(());
    }
    let place = if matches { "hash" } else { "interactions_hash" };
    let problem = "the tables beside it are not those that were imported";
    Err(Error::invalid(
        path,
        place,
        problem,
        "import the data again, or remove dataset.json to read the tables as they are",
    ))
}
