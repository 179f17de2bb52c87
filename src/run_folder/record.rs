//! `resume.json`: what the run of a folder is and how far it has come.

use super::fingerprint::Fingerprint;
use super::written::Written;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

const FORMAT: &str = "lea-resume-3";
/// Formats that are read; the older one has no sizes.
const READ: [&str; 2] = ["lea-resume-2", FORMAT];

/// `resume.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: String,
    pub status: Status,
    pub run: Fingerprint,
    /// Patterns of the files that it may write.
    pub outputs: Vec<String>,
    /// The words that started it, while it is not finished: what is to be given again with `--resume`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<String>,
    /// Files that it had written when it was finished; it is no longer without them.
    pub results: Written,
    /// What finished stages left for the later ones.
    pub stages: BTreeMap<String, Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// The files of an earlier run are being removed: none of `outputs` is this run's yet.
    Clearing,
    Running,
    Finished,
}

/// A stage that was finished once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    /// Files that it wrote.
    pub files: Written,
    /// Whether it need not be done again.
    pub done: bool,
    /// What later stages need of it.
    pub left: Value,
}

impl Record {
    /// Of the run that this process begins.
    pub fn new(run: Fingerprint, outputs: Vec<String>) -> Self {
        Record {
            format: FORMAT.into(),
            status: Status::Running,
            run,
            outputs,
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            results: Written::default(),
            stages: BTreeMap::new(),
        }
    }

    /// The record at `path`; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match files::read_text(path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let wrong = |place: String, problem: String| {
            let remedy = "it was changed or belongs to another version of lea: name another folder with --out, or \
                          remove this one";
            Error::invalid(path, place, problem, remedy)
        };
        let record: Record =
            serde_json::from_str(&text).map_err(|e| wrong(format!("line {}", e.line()), e.to_string()))?;
        if !READ.contains(&&record.format[..]) {
            return Err(wrong("format".into(), format!("{:?} where {FORMAT:?} is expected", record.format)));
        }
        Ok(Some(record))
    }

    /// Replaces the record at `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }
}
