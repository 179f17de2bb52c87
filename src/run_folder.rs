//! The output folder of one run: locked while it runs, with a record of what the run is, so that it can be resumed by
//! the same run and by no other, and replaced without touching a file that it did not write.

mod fingerprint;
mod kept;
mod lock;
mod outputs;
mod place;
mod record;
mod survey;
mod written;

pub use fingerprint::{Difference, Fingerprint};
pub use kept::Kept;
pub use lock::FolderLock;
pub use outputs::remove_half_written;
pub use survey::{Left, half_written, survey};
pub use written::Missing;

use self::lock::{Locks, same_file};
use self::place::{Place, RECORD};
use self::record::{Record, Stage, Status};
use self::written::Written;
use crate::progress::MetricsLog;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// What to do with what stands in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse a folder that holds anything.
    New,
    /// Remove what an earlier run wrote there, and only that.
    Overwrite,
    /// Go on where the same run stopped; start anew in an empty folder.
    Resume,
}

/// A run that wants to write to a folder.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The folder.
    pub dir: &'a Path,
    /// Which of several runs that share the folder; each then has a lock and a record of its own, and the folder may
    /// hold other files. `None` for the only one.
    pub part: Option<&'a str>,
    /// What to do with what is there.
    pub start: Start,
    /// What the run is.
    pub fingerprint: Fingerprint,
    /// Files and folders that it reads: what lies there is never removed.
    pub inputs: Vec<PathBuf>,
    /// Every file that it may write, below the folder; in a file's name, one `*` stands for anything and each `?` for
    /// a digit. Record and checkpoints need not be named. Those that it has written when it is finished are its
    /// results: without one of them, or with one of another size, it is finished no longer.
    pub outputs: Vec<String>,
    /// Names of results that it has in common with other parts of the folder: not to be removed with it.
    pub shared: Vec<String>,
    /// Time between two checkpoints; zero for one at every consistent point.
    pub checkpoint_every: Duration,
}

/// A folder that this run alone writes to; dropped, it is unlocked.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    part: Option<String>,
    locks: Locks,
    record: Mutex<Record>,
    resumed: bool,
    shared: Vec<String>,
    missing: Vec<Missing>,
    checkpoint_every: Duration,
}

impl<'a> Opening<'a> {
    /// Of the only run of `dir`, which reads and writes nothing and keeps a checkpoint of every consistent point.
    pub fn new(dir: &'a Path, start: Start, fingerprint: Fingerprint) -> Self {
        Opening {
            dir,
            part: None,
            start,
            fingerprint,
            inputs: Vec::new(),
            outputs: Vec::new(),
            shared: Vec::new(),
            checkpoint_every: Duration::ZERO,
        }
    }

    /// Locks the folder and makes it ready. `None` where `start` is to resume and the same run was finished before:
    /// nothing is to be done then, and nothing was touched. One that lacks a result is gone on with.
    ///
    /// # Errors
    /// Another process that writes there now; files in the way; a run that is not the one to be resumed, with the
    /// first thing in which it differs; whatever the file system refuses.
    pub fn open(self) -> Result<Option<RunFolder>> {
        let dir = self.dir;
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let place = Place { dir, part: self.part };
        // A folder of somebody else's files is refused before a lock is left there.
        if self.start != Start::Overwrite && !place.record().exists() && place.is_taken()? {
            return Err(place.taken(self.start));
        }
        let locks = place.lock()?;
        // A run killed while it wrote its record left that beside the last whole one.
        outputs::remove_half_written(dir, &[&place.own_name("", RECORD)])?;
        let found = place.read_record()?;
        let patterns = std::iter::once(place.checkpoints()).chain(self.outputs);
        let inputs = &self.inputs[..];
        let mut record = Record::new(self.fingerprint, patterns.collect());
        let (mut resumed, mut missing) = (false, Vec::new());
        match (self.start, found) {
            (Start::New, Some(found)) => return Err(place.holds_a_run(&found)),
            (Start::Overwrite, found) => place.clear(&mut record, found, inputs)?,
            (_, None) if place.is_taken()? => return Err(place.taken(self.start)),
            (_, None) => place.write_record(&record)?,
            (Start::Resume, Some(found)) => {
                place.check_same(&found, &record.run)?;
                missing = found.results.missing(dir, false);
                match found.status {
                    Status::Finished if missing.is_empty() => {
                        place.remove_checkpoints()?;
                        return Ok(None);
                    }
                    Status::Clearing => place.clear(&mut record, Some(found), inputs)?,
                    Status::Running | Status::Finished => {
                        outputs::remove(dir, &outputs::matching(dir, &record.outputs, true)?)?;
                        place.remove_changed(&missing)?;
                        for stage in found.stages.values().filter(|stage| stage.done) {
                            place.remove_changed(&stage.files.missing(dir, true))?;
                        }
                        record.stages = found.stages;
                        place.write_record(&record)?;
                        resumed = true;
                    }
                }
            }
        }
        Ok(Some(RunFolder {
            dir: dir.to_path_buf(),
            part: self.part.map(String::from),
            locks,
            record: Mutex::new(record),
            resumed,
            shared: self.shared,
            missing,
            checkpoint_every: self.checkpoint_every,
        }))
    }
}

impl RunFolder {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether an earlier, unfinished run of the same fingerprint is gone on with.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Results that the run had been finished with and that are gone or were of another size, and so removed: what
    /// made them is done again.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Where to look, from any thread, for what the run goes on from if it is ended now.
    pub fn kept(&self) -> Kept {
        let journals = self.with_record(|record| Kept::journals(&record.outputs));
        Kept::new(&self.place(), journals)
    }

    /// Time between two checkpoints.
    pub fn checkpoint_every(&self) -> Duration {
        self.checkpoint_every
    }

    /// Where the checkpoint of the step `name` lies while the step runs.
    pub fn checkpoint_path(&self, name: &str) -> PathBuf {
        self.dir.join(self.place().own_name("checkpoint-", &format!("{name}.safetensors")))
    }

    /// Removes those of the run's files that match `patterns`, whole and half: what a killed run left of a stage that
    /// begins again.
    pub fn remove(&self, patterns: &[&str]) -> Result<()> {
        self.check_still_there()?;
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.to_string()).collect();
        for temporary in [false, true] {
            outputs::remove(&self.dir, &outputs::matching(&self.dir, &patterns, temporary)?)?;
        }
        Ok(())
    }

    /// What the checkpoints of this run carry, so that none of another run is taken for one.
    pub fn fingerprint_hash(&self) -> String {
        self.with_record(|record| record.run.hash())
    }

    /// The metrics stream at `path` below the folder: a new one, or that of the run that is resumed, to be cut back to
    /// where it goes on.
    pub fn log(&self, path: &str) -> Result<MetricsLog> {
        let path = self.dir.join(path);
        if self.resumed { MetricsLog::open(&path) } else { MetricsLog::create(&path) }
    }

    /// What the finished stage `name` of the run that is resumed left; `None` where it is still to be done, or to be
    /// done again as a file of it is gone.
    pub fn stage<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        if self.lost_stage(name) {
            return None;
        }
        self.with_record(|record| {
            let stage = record.stages.get(name).filter(|stage| stage.done)?;
            // What cannot be read (a figure that was no number, say) is made again: the same bits come out.
            serde_json::from_value(stage.left.clone()).ok()
        })
    }

    /// Whether a file that the finished stage `name` wrote is gone, or has another size.
    pub fn lost_stage(&self, name: &str) -> bool {
        self.with_record(|record| {
            record.stages.get(name).is_some_and(|stage| !stage.files.missing(&self.dir, true).is_empty())
        })
    }

    /// Lets the stages `names` be done again.
    pub fn forget_stages(&self, names: &[&str]) -> Result<()> {
        self.check_still_there()?;
        self.with_record(|record| {
            for (_, stage) in record.stages.iter_mut().filter(|(name, _)| names.contains(&&name[..])) {
                stage.done = false;
            }
            self.place().write_record(record)
        })
    }

    /// Records that the stage `name` is finished, its files written, and what later ones need of it.
    pub fn finish_stage(&self, name: &str, left: &impl Serialize) -> Result<()> {
        self.check_still_there()?;
        let left = serde_json::to_value(left)
            .map_err(|e| Error::setting(format!("stage {name} cannot be recorded: {e}"), "report this"))?;
        self.with_record(|record| {
            let names: Vec<String> = match record.stages.get(name) {
                // Done again, it has written what it had written before, and what followed may still stand there.
                Some(stage) => stage.files.0.keys().cloned().collect(),
                None => {
                    let of_others: Vec<&String> =
                        record.stages.values().flat_map(|s| s.files.0.keys()).collect();
                    let mut written = self.place().written(&record.outputs)?;
                    written.retain(|file| !of_others.contains(&file));
                    written
                }
            };
            let files = Written::measured(&self.dir, names);
            record.stages.insert(name.into(), Stage { files, done: true, left });
            self.place().write_record(record)
        })
    }

    /// Removes the checkpoints and marks the run as finished. What it has written is looked for when it is resumed.
    pub fn finish(self) -> Result<()> {
        self.check_still_there()?;
        self.with_record(|record| {
            record.status = Status::Finished;
            record.results = Written::measured(&self.dir, self.place().written(&record.outputs)?);
            // Other parts may write these: that they are there is all that counts.
            record.results.0.extend(self.shared.iter().map(|name| (name.clone(), None)));
            record.command_line.clear();
            self.place().write_record(record)
        })?;
        self.place().remove_checkpoints()
    }

    /// Refuses to go on in a folder that was moved, removed or replaced meanwhile: written to its name, the files of
    /// one run would end up in two places.
    pub fn check_still_there(&self) -> Result<()> {
        if same_file(&self.locks.own, &self.place().lock_path()) {
            return Ok(());
        }
        Err(Error::setting(
            format!(
                "the output folder {} was moved or removed while the run wrote to it",
                self.dir.display()
            ),
            "leave it in place, and start again",
        ))
    }

    fn place(&self) -> Place<'_> {
        Place { dir: &self.dir, part: self.part.as_deref() }
    }

    fn with_record<R>(&self, f: impl FnOnce(&mut Record) -> R) -> R {
        f(&mut self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

#[cfg(test)]
mod tests;
