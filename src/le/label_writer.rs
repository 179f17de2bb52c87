//! Writing the files of a labels folder: block by block into a journal, from there into the file, then its record.

use super::label_files::{LabelBlock, columns};
use super::label_journal::Journal;
use super::label_manifest::{FORMAT, LabelFile, LabelHeader, file_name, file_stem};
use super::label_part::LabelPart;
use super::label_record::FileRecord;
use crate::tensor::file::{self, Entry};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Writes the files of a labelling that are one run's part.
#[derive(Debug)]
pub struct LabelWriter {
    dir: PathBuf,
    header: LabelHeader,
    part: LabelPart,
}

/// A file that a writer was asked for.
#[derive(Debug)]
pub enum Begun<'a> {
    /// It is there already.
    Finished(Box<FileRecord>),
    /// It is to be written, or to be gone on with.
    Open(Box<OpenFile<'a>>),
}

impl LabelWriter {
    /// A writer of `part` into `dir`, which is made where it is missing. What is there of the same labelling is kept and
    /// gone on with.
    ///
    /// # Errors
    /// Files of another labelling, or of one cut into another number of files.
    pub fn open(dir: &Path, header: LabelHeader, part: LabelPart) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let writer = LabelWriter { dir: dir.to_path_buf(), header, part };
        check_neighbours(dir, &writer.header, &writer.part, false)?;
        Ok(writer)
    }

    /// The files that this writer writes.
    pub fn part(&self) -> &LabelPart {
        &self.part
    }

    /// Begins file `index`, or goes on with it.
    ///
    /// # Errors
    /// A finished or unfinished file of another labelling, and a finished one that was changed.
    pub fn begin(&self, index: usize) -> Result<Begun<'_>> {
        let path = |ending| self.dir.join(format!("{}{ending}", file_stem(index, self.part.files())));
        let (record, file, part) = (path(".json"), path(".safetensors"), path(".part"));
        let users = self.part.users_of(index);
        if record.is_file() && file.is_file() {
            let found = FileRecord::read(&record)?;
            found.expect(&record, &self.header)?;
            found.check(&self.dir, index, self.part.files())?;
            remove(&part)?;
            return Ok(Begun::Finished(Box::new(found)));
        }
        let journal = match part.exists() {
            true => Some(Journal::open(&part, &self.header, &users)?),
            false => None,
        };
        Ok(Begun::Open(Box::new(OpenFile { header: &self.header, users, file, record, part, journal })))
    }
}

/// Refuses label files in `dir` of another labelling than `header`, and of one that is cut into another number of files;
/// but not those that `part` will write where they are to be replaced. A folder that is missing is fine.
pub fn check_neighbours(dir: &Path, header: &LabelHeader, part: &LabelPart, replace: bool) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in entries(dir)? {
        let path = dir.join(&entry.name);
        if replace && entry.total == part.files() && part.own().contains(&entry.index) {
            continue;
        }
        if entry.total != part.files() {
            let problem = format!("it is one of {} files, this run makes {}", entry.total, part.files());
            let remedy = "ask for the same --files or number of shards, or name another folder with --out";
            return Err(Error::invalid(path, "name", problem, remedy));
        }
        if entry.ending == ".json" {
            FileRecord::read(&path)?.expect(&path, header)?;
        }
    }
    Ok(())
}

/// A label file that is being written.
#[derive(Debug)]
pub struct OpenFile<'a> {
    header: &'a LabelHeader,
    users: Range<u32>,
    file: PathBuf,
    record: PathBuf,
    part: PathBuf,
    /// None before the first block.
    journal: Option<Journal>,
}

impl OpenFile<'_> {
    /// User and t of the last step that is written.
    pub fn last(&self) -> Option<(u32, u32)> {
        self.journal.as_ref().and_then(Journal::last)
    }

    /// What was cut off of an earlier run's labels because its last write was torn, in words.
    pub fn cut(&self) -> Option<&str> {
        self.journal.as_ref().and_then(Journal::cut)
    }

    /// Appends labels of the steps that follow.
    ///
    /// # Errors
    /// Labels that are no numbers, not in order, not in the catalogue or not of the file's users: nothing is written.
    pub fn append(&mut self, block: &LabelBlock) -> Result<()> {
        let stranger = block.user.iter().find(|user| !self.users.contains(user));
        let checked = match stranger {
            Some(user) => Err(("user", format!("user {user}, the file is for {:?}", self.users))),
            None => block.check(self.header, self.last()),
        };
        checked.map_err(|(name, problem)| {
            let remedy = "nothing was written; if the LE's training diverged, lower fit.learning_rate and fit it again";
            Error::invalid(&self.file, format!("tensor {name}"), problem, remedy)
        })?;
        if self.journal.is_none() && block.rows() > 0 {
            self.journal = Some(Journal::open(&self.part, self.header, &self.users)?);
        }
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(block))
    }

    /// Writes the file, then the record that vouches for it.
    pub fn finish(mut self, quality: serde_json::Value) -> Result<FileRecord> {
        self.journal.as_ref().map_or(Ok(()), Journal::check_still_there)?;
        let rows = self.journal.as_ref().map_or(0, Journal::rows);
        let columns = columns(self.header);
        let entry = |column: &super::label_files::Column| Entry {
            name: column.name.to_string(),
            dtype: column.dtype,
            shape: column.shape(rows),
        };
        let metadata = [
            ("format", FORMAT.to_string()),
            ("labelling", self.header.identity()),
            ("first_user", self.users.start.to_string()),
            ("end_user", self.users.end.to_string()),
        ];
        let metadata = BTreeMap::from(metadata.map(|(key, value)| (key.to_string(), value)));
        let entries: Vec<Entry> = columns.iter().map(entry).collect();
        let written = file::write_streamed(&self.file, &entries, &metadata, &mut |column, out| {
            self.journal.as_mut().map_or(Ok(()), |journal| journal.copy_column(column, out))
        })?;
        let Range { start, end } = self.users;
        let (first_user, last_user) = (start, end.saturating_sub(1));
        let file = LabelFile { file: written.file, rows, first_user, last_user, sha256: written.sha256 };
        let record = FileRecord::new(file, written.bytes, self.header.clone(), quality);
        record.write(&self.record)?;
        // Only now: a run that ends before this line makes the file anew from its journal.
        drop(self.journal.take());
        remove(&self.part)?;
        Ok(record)
    }
}

/// A file of a labels folder: `labels-00002-of-00016` and an ending.
#[derive(Debug)]
pub(super) struct FolderEntry {
    pub name: String,
    pub index: usize,
    pub total: usize,
    pub ending: String,
}

/// The files in `dir` that are named as label files, their records and journals are, by name.
pub(super) fn entries(dir: &Path) -> Result<Vec<FolderEntry>> {
    let io = |e| Error::io(dir, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        found.extend(parse(&entry.map_err(io)?.file_name().to_string_lossy()));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn parse(name: &str) -> Option<FolderEntry> {
    let stem = file_stem(0, 1).len();
    let (numbers, ending) = name.strip_prefix("labels-")?.split_at_checked(stem - "labels-".len())?;
    let (index, total) = numbers.split_once("-of-")?;
    let (index, total): (usize, usize) = (index.parse().ok()?, total.parse().ok()?);
    let ours = [".safetensors", ".json", ".part"].iter().any(|known| ending.starts_with(known));
    let entry = FolderEntry { name: name.into(), index, total, ending: ending.into() };
    (ours && index < total && file_name(index, total).starts_with(&name[..stem])).then_some(entry)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}
