//! How far a labelling has come that has no manifest yet, told without touching its folder.

use super::label_journal::{Journal, Peek};
use super::label_record::FileRecord;
use super::label_writer::entries;
use crate::{Error, Result};
use std::path::Path;

/// How far one label file has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is there with its record: number of steps.
    Finished(usize),
    /// Its journal is there.
    Begun(Option<Peek>),
    /// Nothing is.
    Missing,
}

/// A folder of label files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelsLeft {
    /// The files, by number.
    pub files: Vec<FileState>,
}

/// The label files of `dir`; `None` where it holds none.
///
/// # Errors
/// Files of labellings cut into different numbers of files, records and journals that cannot be read.
pub fn labels_left(dir: &Path) -> Result<Option<LabelsLeft>> {
    let found = entries(dir)?;
    let Some(first) = found.first() else { return Ok(None) };
    if let Some(other) = found.iter().find(|entry| entry.total != first.total) {
        let problem = format!("it is one of {} files, {} is one of {}", other.total, first.name, first.total);
        let remedy = "remove the files that do not belong here";
        return Err(Error::invalid(dir.join(&other.name), "name", problem, remedy));
    }
    let mut files = vec![FileState::Missing; first.total];
    for entry in &found {
        let there = |ending: &str| found.iter().any(|e| e.index == entry.index && e.ending == ending);
        let finished = there(".json") && there(".safetensors");
        // A name as labels-00007-of-00004 is no file of the four.
        let Some(file) = files.get_mut(entry.index) else { continue };
        *file = match entry.ending.as_str() {
            ".json" if finished => FileState::Finished(FileRecord::read(&dir.join(&entry.name))?.file.rows),
            ".part" if !finished => FileState::Begun(Journal::peek(&dir.join(&entry.name))?),
            _ => continue,
        };
    }
    Ok(Some(LabelsLeft { files }))
}
