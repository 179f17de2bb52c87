//! The output folder of one run: locked while it runs, with a record of what the run is, so that it can be resumed by
//! the same run and by no other, and replaced without touching a file that it did not write.

mod fingerprint;
mod lock;
mod outputs;
mod survey;

pub use fingerprint::{Difference, Fingerprint};
pub use survey::{Left, half_written, survey};

use self::lock::{Locks, same_file};
use crate::progress::MetricsLog;
use crate::{Error, Result, files};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

const FORMAT: &str = "lea-resume-1";

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
    /// a digit. Record and checkpoints need not be named.
    pub outputs: Vec<String>,
    /// Names of files without which it is not finished, whatever its record says.
    pub results: Vec<String>,
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
    checkpoint_every: Duration,
}

/// `resume.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: String,
    status: Status,
    run: Fingerprint,
    outputs: Vec<String>,
    /// The words that started it, while it is not finished: what is to be given again with `--resume`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command_line: Vec<String>,
    /// What finished stages of an unfinished run left for the later ones.
    stages: BTreeMap<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// The files of an earlier run are being removed: none of `outputs` is this run's yet.
    Clearing,
    Running,
    Finished,
}

impl Opening<'_> {
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
        let found = place.read_record()?;
        let patterns = std::iter::once(place.own_name("checkpoint-", "*.safetensors")).chain(self.outputs);
        let inputs = &self.inputs[..];
        let mut record = Record {
            format: FORMAT.into(),
            status: Status::Running,
            run: self.fingerprint,
            outputs: patterns.collect(),
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            stages: BTreeMap::new(),
        };
        let mut resumed = false;
        match (self.start, found) {
            (Start::New, Some(found)) => return Err(place.holds_a_run(&found)),
            (Start::Overwrite, found) => place.clear(&mut record, found, inputs)?,
            (_, None) if place.is_taken()? => return Err(place.taken(self.start)),
            (_, None) => place.write_record(&record)?,
            (Start::Resume, Some(found)) => {
                place.check_same(&found, &record.run)?;
                match found.status {
                    Status::Finished if self.results.iter().all(|name| dir.join(name).is_file()) => {
                        place.remove_checkpoints()?;
                        return Ok(None);
                    }
                    Status::Clearing => place.clear(&mut record, Some(found), inputs)?,
                    Status::Running | Status::Finished => {
                        outputs::remove(dir, &outputs::matching(dir, &record.outputs, true)?)?;
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

    /// What the finished stage `name` of the run that is resumed left; `None` where it is still to be done.
    pub fn stage<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        // What cannot be read (a figure that was no number, say) is made again: the same bits come out.
        self.with_record(|record| serde_json::from_value(record.stages.get(name)?.clone()).ok())
    }

    /// Records that the stage `name` is finished, its files written, and what later ones need of it.
    pub fn finish_stage(&self, name: &str, left: &impl Serialize) -> Result<()> {
        self.check_still_there()?;
        let left = serde_json::to_value(left)
            .map_err(|e| Error::setting(format!("stage {name} cannot be recorded: {e}"), "report this"))?;
        self.with_record(|record| {
            record.stages.insert(name.into(), left);
            self.place().write_record(record)
        })
    }

    /// Removes the checkpoints and marks the run as finished.
    pub fn finish(self) -> Result<()> {
        self.check_still_there()?;
        self.with_record(|record| {
            record.status = Status::Finished;
            record.stages.clear();
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

/// Refuses to remove what is one of `inputs` or lies in one that is a folder.
fn refuse_to_remove(inputs: &[PathBuf], going: &[PathBuf]) -> Result<()> {
    let read: Vec<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let is_read = |path: &&PathBuf| {
        path.canonicalize().is_ok_and(|path| read.iter().any(|r| *r == path || Some(&**r) == path.parent()))
    };
    match going.iter().find(is_read) {
        None => Ok(()),
        Some(path) => Err(Error::setting(
            format!("the run reads {}, which it would replace", path.display()),
            "name another folder with --out",
        )),
    }
}

/// A folder, and which run's files in it are meant.
struct Place<'a> {
    dir: &'a Path,
    part: Option<&'a str>,
}

impl Place<'_> {
    /// `START REST`, with the name of the part between them where there are several.
    fn own_name(&self, start: &str, rest: &str) -> String {
        match self.part {
            None => format!("{start}{rest}"),
            Some(part) => format!("{start}{part}-{rest}"),
        }
    }

    fn record(&self) -> PathBuf {
        self.dir.join(self.own_name("", "resume.json"))
    }

    /// A whole run keeps out everything else, a part itself and whole runs.
    fn lock(&self) -> Result<Locks> {
        let whole = Place { dir: self.dir, part: None }.lock_path();
        let shared = self.part.map(|_| lock::hold(self.dir, &whole, File::try_lock_shared)).transpose()?;
        Ok(Locks { own: lock::hold(self.dir, &self.lock_path(), File::try_lock)?, _shared: shared })
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join(self.own_name(".lea-", "lock"))
    }

    /// Whether the folder holds anything but locks. Parts share their folder: it is never taken by other files.
    fn is_taken(&self) -> Result<bool> {
        if self.part.is_some() {
            return Ok(false);
        }
        for entry in std::fs::read_dir(self.dir).map_err(|e| Error::io(self.dir, e))? {
            let name = entry.map_err(|e| Error::io(self.dir, e))?.file_name();
            if !name.to_str().is_some_and(|name| name.starts_with(".lea-") && name.ends_with("lock")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn taken(&self, start: Start) -> Error {
        let dir = self.dir.display();
        match start {
            Start::Resume => Error::setting(
                format!("the folder {dir} is not empty and holds no run that could be resumed"),
                "name the folder of the run with --out, or pass --overwrite instead to replace the files that the \
                 run will write",
            ),
            _ => Error::setting(
                format!("the output folder {dir} exists and is not empty"),
                "name another with --out, remove it, or pass --overwrite to replace its files",
            ),
        }
    }

    fn holds_a_run(&self, found: &Record) -> Error {
        let dir = self.dir.display();
        if found.status == Status::Finished {
            return self.taken(Start::New);
        }
        Error::setting(
            format!("the output folder {dir} exists and is not empty: it holds an unfinished run"),
            "go on with --resume, or pass --overwrite to start again in its place",
        )
    }

    fn remove_checkpoints(&self) -> Result<()> {
        let checkpoints = [self.own_name("checkpoint-", "*.safetensors")];
        outputs::remove(self.dir, &outputs::matching(self.dir, &checkpoints, false)?)
    }

    fn check_same(&self, found: &Record, now: &Fingerprint) -> Result<()> {
        let Some(Difference { field, before, now }) = found.run.difference(now) else { return Ok(()) };
        Err(Error::invalid(
            self.record(),
            format!("run.{field}"),
            format!("the run that was started here has {before}, this one has {now}"),
            "resume it with the settings and files that it was started with, or start another in a new folder",
        ))
    }

    fn read_record(&self) -> Result<Option<Record>> {
        let path = self.record();
        let text = match files::read_text(&path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let wrong = |place: String, problem: String| {
            let remedy = "it was changed or belongs to another version of lea: name another folder with --out, or \
                          remove this one";
            Error::invalid(&path, place, problem, remedy)
        };
        let record: Record =
            serde_json::from_str(&text).map_err(|e| wrong(format!("line {}", e.line()), e.to_string()))?;
        if record.format != FORMAT {
            return Err(wrong("format".into(), format!("{:?} where {FORMAT:?} is expected", record.format)));
        }
        Ok(Some(record))
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        files::write_atomic(&self.record(), |out| {
            serde_json::to_writer_pretty(&mut *out, record)?;
            out.write_all(b"\n")
        })
    }

    /// Removes the files of an earlier run, whole and half; killed meanwhile, the folder is still to be cleared.
    fn clear(&self, record: &mut Record, found: Option<Record>, inputs: &[PathBuf]) -> Result<()> {
        let own = record.outputs.clone();
        record.status = Status::Clearing;
        record.outputs.extend(found.into_iter().flat_map(|found| found.outputs).filter(|o| !own.contains(o)));
        let mut going = outputs::matching(self.dir, &record.outputs, false)?;
        going.extend(outputs::matching(self.dir, &record.outputs, true)?);
        refuse_to_remove(inputs, &going)?;
        self.write_record(record)?;
        outputs::remove(self.dir, &going)?;
        record.status = Status::Running;
        record.outputs = own;
        self.write_record(record)
    }
}

#[cfg(test)]
mod tests;
