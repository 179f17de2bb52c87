//! Writing the files of a labels folder: block by block into a journal, from there into the file, then its record.

use super::label_blocks::Gap;
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
        check_neighbours(dir, &writer.header, &writer.part, OwnFiles::Mended)?;
        Ok(writer)
    }

    /// The files that this writer writes.
    pub fn part(&self) -> &LabelPart {
        &self.part
    }

    /// Begins file `index`, or goes on with it. A finished one that was damaged since, or its record, is begun again.
    ///
    /// # Errors
    /// A finished or unfinished file of another labelling.
    pub fn begin(&self, index: usize) -> Result<Begun<'_>> {
        let path = |ending| self.dir.join(format!("{}{ending}", file_stem(index, self.part.files())));
        let (record, file, part) = (path(".json"), path(".safetensors"), path(".part"));
        let users = self.part.users_of(index);
        let mut lost = None;
        if record.is_file() && file.is_file() {
            match self.finished(&record, index)? {
                Ok(found) => {
                    remove(&part)?;
                    return Ok(Begun::Finished(Box::new(found)));
                }
                Err(damage) => lost = Some(format!("{damage}; the users of the file are labelled again")),
            }
            remove(&record)?;
            remove(&file)?;
        }
        let journal = match part.exists() {
            true => Some(Journal::open(&part, &self.header, &users)?),
            false => None,
        };
        Ok(Begun::Open(Box::new(OpenFile { header: &self.header, users, file, record, part, journal, lost })))
    }

    /// File `index` with the record at `path`; the inner error tells what of them was damaged.
    fn finished(&self, path: &Path, index: usize) -> Result<std::result::Result<FileRecord, String>> {
        let found = match damage_of(FileRecord::read(path))? {
            Ok(found) => found,
            Err(damage) => return Ok(Err(damage)),
        };
        found.expect(path, &self.header)?;
        damage_of(found.check(&self.dir, index, self.part.files()).map(|()| found))
    }
}

/// What of a labels folder's own files is taken as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnFiles {
    /// Those of this labelling.
    Kept,
    /// Those of this labelling; what was damaged is made again.
    Mended,
    /// None: all are replaced.
    Replaced,
}

/// Apart from other errors, what says that a file was damaged: its place and problem.
fn damage_of<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Err(Error::Invalid { path, place, problem, .. }) => {
            Ok(Err(format!("{}: {place}: {problem}", path.display())))
        }
        other => other.map(Ok),
    }
}

/// Refuses label files in `dir` of another labelling than `header`, and of one that is cut into another number of files;
/// of the `own` ones of `part` those alone that it cannot go on from, and one that another run is writing, as a shard of
/// another number of shards may. A folder that is missing is fine.
pub fn check_neighbours(dir: &Path, header: &LabelHeader, part: &LabelPart, own: OwnFiles) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in entries(dir)? {
        let path = dir.join(&entry.name);
        let of_part = entry.total == part.files() && part.own().contains(&entry.index);
        if of_part && entry.ending == ".part" {
            Journal::refuse_if_held(&path)?;
        }
        if of_part && own == OwnFiles::Replaced {
            continue;
        }
        if entry.total != part.files() {
            let problem = format!("it is one of {} files, this run makes {}", entry.total, part.files());
            let remedy = "ask for the same --files or number of shards, or name another folder with --out";
            return Err(Error::invalid(path, "name", problem, remedy));
        }
        if entry.ending == ".json" {
            let read = FileRecord::read(&path);
            let read = if of_part && own == OwnFiles::Mended { damage_of(read)?.ok() } else { Some(read?) };
            read.map_or(Ok(()), |record| record.expect(&path, header))?;
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
    /// What was damaged of the finished file that stood there.
    lost: Option<String>,
}

impl OpenFile<'_> {
    /// User and t of the last step that is written.
    pub fn last(&self) -> Option<(u32, u32)> {
        self.journal.as_ref().and_then(Journal::last)
    }

    /// Where steps may be missing: always behind the last one that is written, and where the disk damaged labels amid
    /// others.
    pub fn gaps(&self) -> Vec<Gap> {
        self.journal.as_ref().map_or_else(|| vec![(None, None)], Journal::gaps)
    }

    /// What was lost of an earlier run's labels, because its last write was torn or the disk damaged some, in words.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref().or_else(|| self.journal.as_ref()?.lost())
    }

    /// Appends labels of the first steps of one of the gaps.
    ///
    /// # Errors
    /// Labels that are no numbers, not in order, not in the catalogue or not of the file's users: nothing is written.
    pub fn append(&mut self, block: &LabelBlock) -> Result<()> {
        let stranger = block.user.iter().find(|user| !self.users.contains(user));
        let checked = match stranger {
            Some(user) => Err(("user", format!("user {user}, the file is for {:?}", self.users))),
            None => {
                let first = block.first().unwrap_or_default();
                let neighbours = self.journal.as_ref().map(|journal| journal.neighbours(first));
                let (after, next) = neighbours.unwrap_or_default();
                block.check(self.header, after).and_then(|()| match next {
                    Some((user, t)) if block.last() >= next => {
                        Err(("t", format!("the labels reach into those from step {t} of user {user} on")))
                    }
                    _ => Ok(()),
                })
            }
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
