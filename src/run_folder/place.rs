//! A folder, and whose files in it are meant: its locks, its record, and what stands there.

use super::fingerprint::{Difference, Fingerprint};
use super::lock::{self, Locks};
use super::record::{Record, Status};
use super::written::Missing;
use super::{Start, outputs};
use crate::{Error, Result, files};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file that a run is recorded in; of a part, with its name ahead.
pub(super) const RECORD: &str = "resume.json";

/// A folder, and which run's files in it are meant.
pub(super) struct Place<'a> {
    pub dir: &'a Path,
    pub part: Option<&'a str>,
}

impl Place<'_> {
    /// `START REST`, with the name of the part between them where there are several.
    pub fn own_name(&self, start: &str, rest: &str) -> String {
        match self.part {
            None => format!("{start}{rest}"),
            Some(part) => format!("{start}{part}-{rest}"),
        }
    }

    pub fn record(&self) -> PathBuf {
        self.dir.join(self.own_name("", RECORD))
    }

    /// A whole run keeps out everything else, a part itself and whole runs.
    pub fn lock(&self) -> Result<Locks> {
        let whole = Place { dir: self.dir, part: None }.lock_path();
        let shared = self.part.map(|_| lock::hold(self.dir, &whole, File::try_lock_shared)).transpose()?;
        Ok(Locks { own: lock::hold(self.dir, &self.lock_path(), File::try_lock)?, _shared: shared })
    }

    pub fn lock_path(&self) -> PathBuf {
        self.dir.join(self.own_name(".lea-", "lock"))
    }

    /// Whether the folder holds anything but locks and what a run left that was killed while it wrote its first record.
    /// Parts share their folder: it is never taken by other files.
    pub fn is_taken(&self) -> Result<bool> {
        let record = self.own_name("", RECORD);
        let is_half_record = |name: &str| files::final_name(name) == Some(&record[..]);
        Ok(self.part.is_none() && files::is_taken(self.dir, is_half_record)?)
    }

    pub fn taken(&self, start: Start) -> Error {
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

    pub fn holds_a_run(&self, found: &Record) -> Error {
        let dir = self.dir.display();
        if found.status == Status::Finished {
            return self.taken(Start::New);
        }
        Error::setting(
            format!("the output folder {dir} exists and is not empty: it holds an unfinished run"),
            "go on with --resume, or pass --overwrite to start again in its place",
        )
    }

    /// What the names of checkpoints match.
    pub fn checkpoints(&self) -> String {
        self.own_name("checkpoint-", "*.safetensors")
    }

    pub fn remove_checkpoints(&self) -> Result<()> {
        outputs::remove(self.dir, &outputs::matching(self.dir, &[self.checkpoints()], false)?)
    }

    pub fn check_same(&self, found: &Record, now: &Fingerprint) -> Result<()> {
        let Some(Difference { field, before, now }) = found.run.difference(now) else { return Ok(()) };
        Err(Error::invalid(
            self.record(),
            format!("run.{field}"),
            format!("the run that was started here has {before}, this one has {now}"),
            "resume it with the settings and files that it was started with, or start another in a new folder",
        ))
    }

    pub fn read_record(&self) -> Result<Option<Record>> {
        Record::read(&self.record())
    }

    pub fn write_record(&self, record: &Record) -> Result<()> {
        record.write(&self.record())
    }

    /// Removes what is there with another size than it was written with: it is made again like what is gone.
    pub fn remove_changed(&self, missing: &[Missing]) -> Result<()> {
        for path in missing.iter().filter(|file| file.sizes.is_some()).map(|file| self.dir.join(&file.name)) {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the run has written of its `outputs`, but for checkpoints.
    pub fn written(&self, outputs: &[String]) -> Result<Vec<String>> {
        let below = |path: PathBuf| Some(path.strip_prefix(self.dir).ok()?.to_str()?.to_string());
        let mut names: Vec<String> =
            outputs::matching(self.dir, outputs, false)?.into_iter().filter_map(below).collect();
        let checkpoint = self.checkpoints();
        let checkpoints = outputs::matching(self.dir, &[checkpoint], false)?;
        names.retain(|name| !checkpoints.contains(&self.dir.join(name)));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Removes the files of an earlier run, whole and half; killed meanwhile, the folder is still to be cleared.
    pub fn clear(&self, record: &mut Record, found: Option<Record>, inputs: &[PathBuf]) -> Result<()> {
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
