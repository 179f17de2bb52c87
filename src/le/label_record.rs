//! The record beside a finished label file, which vouches for it until the files are merged.

use super::label_manifest::{LabelFile, LabelHeader, file_name};
use crate::files::{self, FileHash};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FORMAT: &str = "lea-labels-file-1";
const AGAIN: &str = "label its shard again with --overwrite";

/// `labels-00002-of-00016.json`: what the label file of that name holds and what it was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    format: String,
    /// Name, rows, users and hash of the file.
    pub file: LabelFile,
    /// Its size.
    pub bytes: u64,
    /// What was labelled and how.
    pub header: LabelHeader,
    /// Quality of the LE on held-out users: in the record of the first file, null in the others.
    pub quality: serde_json::Value,
}

impl FileRecord {
    /// A record of `file`, of `bytes` bytes.
    pub(super) fn new(file: LabelFile, bytes: u64, header: LabelHeader, quality: serde_json::Value) -> Self {
        FileRecord { format: FORMAT.into(), file, bytes, header, quality }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let record: FileRecord = serde_json::from_str(&files::read_text(path)?)
            .map_err(|e| Error::invalid(path, format!("line {}", e.line()), e.to_string(), AGAIN))?;
        if record.format != FORMAT {
            let problem = format!("{:?} where {FORMAT:?} is expected", record.format);
            return Err(Error::invalid(path, "format", problem, AGAIN));
        }
        Ok(record)
    }

    /// Refuses a record at `path` of another labelling than `header`.
    pub(super) fn expect(&self, path: &Path, header: &LabelHeader) -> Result<()> {
        let Some(difference) = self.header.difference(header) else { return Ok(()) };
        let problem = format!("the file beside it is of another labelling: {difference}");
        let remedy = "label all shards with the same data, LE, decoder, settings and seed, each labelling into a \
                      folder of its own";
        Err(Error::invalid(path, "header", problem, remedy))
    }

    /// Checks that the record is that of file `index` of `total`, and the file in `dir` the one that it vouches for.
    pub(super) fn check(&self, dir: &Path, index: usize, total: usize) -> Result<()> {
        let name = file_name(index, total);
        if self.file.file != name {
            let problem = format!("the record names {:?}, expected {name:?}", self.file.file);
            return Err(Error::invalid(dir.join(name), "record", problem, AGAIN));
        }
        let hash = FileHash { file: name, bytes: self.bytes, sha256: self.file.sha256.clone() };
        hash.check(dir, "the file was changed after it was written: label its shard again with --overwrite")
    }
}
