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
/// In its place while the tables are written: a killed import is known by it.
const UNFINISHED: &str = "lea-dataset-unfinished";
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

/// What every manifest says, also that of an import that is not finished.
#[derive(Serialize, Deserialize)]
struct Kind {
    format: String,
}

impl Manifest {
    /// Writes it, and with it the folder is an imported data set.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write(path, self)
    }
}

/// Marks a folder as one whose tables are about to be written.
pub(super) fn mark_unfinished(path: &Path) -> Result<()> {
    write(path, &Kind { format: UNFINISHED.into() })
}

/// Whether the manifest at `path` marks an import that was not finished.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let kind = files::read(path).ok().and_then(|bytes| serde_json::from_slice::<Kind>(&bytes).ok());
    kind.is_some_and(|kind| kind.format == UNFINISHED)
}

fn write(path: &Path, content: &impl Serialize) -> Result<()> {
    files::write_atomic(path, |out| {
        serde_json::to_writer_pretty(&mut *out, content)?;
        out.write_all(b"\n")
    })
}

/// The manifest at `path`, or `None` without one.
pub(super) fn read_manifest(path: &Path) -> Result<Option<Manifest>> {
    if !path.is_file() {
        return Ok(None);
    }
    let remedy = "import the data again";
    if is_unfinished(path) {
        let problem = "the data set in this folder was never written to its end";
        return Err(Error::invalid(path, "format", problem, "import the data again with --overwrite"));
    }
    let manifest: Manifest = serde_json::from_str(&files::read_text(path)?)
        .map_err(|e| Error::invalid(path, format!("line {}", e.line()), e.to_string(), remedy))?;
    if manifest.format != FORMAT {
        let problem = format!("{:?} where {FORMAT:?} is expected", manifest.format);
        return Err(Error::invalid(path, "format", problem, remedy));
    }
    Ok(Some(manifest))
}

/// Refuses tables that are not those the manifest at `path` was written for. Gives the hash of all content, where the
/// texts are those of the import and it was checked too.
pub(super) fn check_hashes(path: &Path, manifest: &Manifest, dataset: &Dataset) -> Result<Option<String>> {
    let same_text = manifest.text == dataset.text;
    let matches = manifest.interactions_hash == dataset.interactions_hash();
    if matches && (!same_text || manifest.hash == dataset.hash()) {
        return Ok(same_text.then(|| manifest.hash.clone()));
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
