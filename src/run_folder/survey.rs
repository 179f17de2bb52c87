//! What the runs of a folder left, told without touching it.

use super::place::RECORD;
use super::{Place, Record, Status, outputs};
use crate::{Error, Result, files};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A run whose record lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which of several runs that share the folder; `None` for the only one.
    pub part: Option<String>,
    /// `fit`, `label`, …
    pub command: String,
    /// The device it computes on, as run records name it.
    pub device: Option<String>,
    /// Whether it came to its end.
    pub finished: bool,
    /// Whether a process is writing there now.
    pub running: bool,
    /// The words that started it; empty once it is finished.
    pub command_line: Vec<String>,
    /// Stages that are done of one that is not finished.
    pub stages: Vec<String>,
    /// Its checkpoints.
    pub checkpoints: Vec<PathBuf>,
}

/// The runs whose records lie in `dir`, by name.
///
/// # Errors
/// A record that is damaged or of another version, and whatever the file system refuses.
pub fn survey(dir: &Path) -> Result<Vec<Left>> {
    let mut runs = Vec::new();
    for name in names(dir)? {
        let Some(part) = name.strip_suffix(RECORD) else { continue };
        let part = match part.strip_suffix('-') {
            Some(part) => Some(part),
            None if part.is_empty() => None,
            None => continue,
        };
        let place = Place { dir, part };
        let Some(record) = place.read_record()? else { continue };
        runs.push(left(&place, record)?);
    }
    Ok(runs)
}

/// The files in `dir` that a process was writing when it was killed, by name.
pub fn half_written(dir: &Path) -> Result<Vec<String>> {
    Ok(names(dir)?.into_iter().filter(|name| files::final_name(name).is_some()).collect())
}

fn left(place: &Place, record: Record) -> Result<Left> {
    let finished = record.status == Status::Finished;
    let stages = record.stages.into_iter().filter(|(_, stage)| stage.done && !finished);
    let mut checkpoints = outputs::matching(place.dir, &[place.checkpoints()], false)?;
    checkpoints.sort();
    Ok(Left {
        part: place.part.map(String::from),
        command: record.run.command().to_string(),
        device: record.run.device().map(String::from),
        finished,
        running: is_held(&place.lock_path()),
        command_line: record.command_line,
        stages: stages.map(|(name, _)| name).collect(),
        checkpoints,
    })
}

/// Whether another process holds the lock at `path`.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        names.extend(entry.map_err(|e| Error::io(dir, e))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
