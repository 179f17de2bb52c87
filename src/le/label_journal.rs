//! What is labelled of a file that is not finished: blocks of labels, appended as they come.
//!
//! ```text
//! line    JSON: format, first_user, end_user, header of the labelling
//! block   rows u64, the tensors' rows one tensor after the other, the first 16 bytes of the SHA-256 of both
//! block   …
//! ```
//! A kill, a full disk or a power failure can leave the last block torn. Opened again, the journal is cut back to the
//! blocks that are whole: those whose sum holds, up to the first that is not.

use super::label_files::{Column, LabelBlock, columns};
use super::label_manifest::LabelHeader;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FORMAT: &str = "lea-labels-part-1";
const SUM_BYTES: usize = 16;
/// A longer first line is none of ours.
const LONGEST_HEAD: u64 = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 1 << 16;
/// A power failure loses no more than this.
const SYNC_EVERY: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    first_user: u32,
    end_user: u32,
    header: LabelHeader,
}

/// The journal of one label file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    columns: Vec<Column>,
    /// First byte and rows of the tensors of every block.
    blocks: Vec<(u64, usize)>,
    last: Option<(u32, u32)>,
    end: u64,
    synced: Instant,
    /// What was cut off when it was opened.
    cut: Option<Box<str>>,
}

/// What a journal tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Users of its file.
    pub users: Range<u32>,
    /// User and t of the last step in it.
    pub last: Option<(u32, u32)>,
    /// Its steps.
    pub rows: usize,
}

impl Journal {
    /// Goes on with the journal at `path`, or begins it.
    ///
    /// # Errors
    /// A file that is no journal, or one of another labelling: what differs is named.
    pub fn open(path: &Path, header: &LabelHeader, users: &Range<u32>) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        // Two writers would tear each other's blocks. Where the file system has no locks, its user must see to it.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let problem = format!("another run of lea is writing to {} now", path.display());
            return Err(Error::setting(
                problem,
                "wait for its end, stop it, or name another folder with --out",
            ));
        }
        let mut journal = Journal {
            path: path.to_path_buf(),
            file,
            columns: columns(header),
            blocks: Vec::new(),
            last: None,
            end: 0,
            synced: Instant::now(),
            cut: None,
        };
        match journal.read_head(header, users)? {
            Some(length) => {
                journal.end = length;
                journal.find_blocks().and_then(|()| journal.cut_torn_tail()).map_err(io)?;
            }
            None => journal.begin(header, users).map_err(io)?,
        }
        Ok(journal)
    }

    /// The users of the journal at `path`, and user and t of the last step that it holds; nothing is touched. `None`
    /// where its first line was never written to its end.
    ///
    /// # Errors
    /// A file that is no journal.
    pub fn peek(path: &Path) -> Result<Option<Peek>> {
        let io = |e| Error::io(path, e);
        let mut line = Vec::new();
        let file = File::open(path).map_err(io)?;
        BufReader::new(&file).take(LONGEST_HEAD).read_until(b'\n', &mut line).map_err(io)?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        let head: Head = serde_json::from_slice(&line).map_err(|e| {
            Error::invalid(path, "line 1", format!("the file is no part of labels: {e}"), "remove the file")
        })?;
        let mut journal = Journal {
            path: path.to_path_buf(),
            file,
            columns: columns(&head.header),
            blocks: Vec::new(),
            last: None,
            end: line.len() as u64,
            synced: Instant::now(),
            cut: None,
        };
        journal.find_blocks().map_err(io)?;
        Ok(Some(Peek { users: head.first_user..head.end_user, last: journal.last, rows: journal.rows() }))
    }

    fn begin(&mut self, header: &LabelHeader, users: &Range<u32>) -> std::io::Result<()> {
        let (first_user, end_user) = (users.start, users.end);
        let head = Head { format: FORMAT.into(), first_user, end_user, header: header.clone() };
        let mut line = serde_json::to_vec(&head)?;
        line.push(b'\n');
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&line)?;
        self.end = line.len() as u64;
        Ok(())
    }

    /// Length of the first line; `None` where it was never written to its end.
    fn read_head(&mut self, header: &LabelHeader, users: &Range<u32>) -> Result<Option<u64>> {
        let mut line = Vec::new();
        let mut start = BufReader::new(&mut self.file).take(LONGEST_HEAD);
        start.read_until(b'\n', &mut line).map_err(|e| Error::io(&self.path, e))?;
        let wrong = |problem: String| {
            let remedy = "remove the file, or name another folder with --out";
            Err(Error::invalid(&self.path, "line 1", problem, remedy))
        };
        if line.last() != Some(&b'\n') {
            return if line.len() as u64 == LONGEST_HEAD {
                wrong("the file is no part of labels".into())
            } else {
                Ok(None)
            };
        }
        let head: Head = match serde_json::from_slice(&line) {
            Ok(head) => head,
            Err(e) => return wrong(format!("the file is no part of labels: {e}")),
        };
        if head.format != FORMAT {
            return wrong(format!("format {:?} where {FORMAT:?} is expected", head.format));
        }
        if let Some(difference) = head.header.difference(header) {
            return wrong(format!("the file was begun by another labelling: {difference}"));
        }
        if (head.first_user, head.end_user) != (users.start, users.end) {
            let found = head.first_user..head.end_user;
            return wrong(format!("the file was begun for the users {found:?}, expected {users:?}"));
        }
        Ok(Some(line.len() as u64))
    }

    /// Finds the blocks that are whole.
    fn find_blocks(&mut self) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        while let Some((rows, bytes)) = self.whole_block(length)? {
            let start = self.end + size_of::<u64>() as u64;
            self.blocks.push((start, rows));
            self.end = start + bytes + SUM_BYTES as u64;
            let id = |column: u64| start + 4 * (column * rows as u64 + rows as u64 - 1);
            self.last = Some((self.read_id(id(0))?, self.read_id(id(1))?));
        }
        Ok(())
    }

    /// Cuts off what follows the blocks that are whole, and keeps what is to be said of it.
    fn cut_torn_tail(&mut self) -> std::io::Result<()> {
        let torn = self.file.metadata()?.len() - self.end;
        if torn > 0 {
            let row = self.columns.iter().filter_map(|column| column.bytes(1)).sum::<usize>().max(1) as u64;
            let told = format!(
                "{}: cut off a torn end of {torn} bytes, at most {} steps, which are labelled again; {} stand",
                self.path.display(),
                torn.div_ceil(row),
                self.rows()
            );
            self.cut = Some(told.into());
        }
        self.file.set_len(self.end)
    }

    /// Rows and tensor bytes of the block at the end of the known ones, if a whole block is there.
    fn whole_block(&mut self, length: u64) -> std::io::Result<Option<(usize, u64)>> {
        let fixed = (size_of::<u64>() + SUM_BYTES) as u64;
        if length - self.end < fixed {
            return Ok(None);
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut reader = BufReader::with_capacity(CHUNK, &mut self.file);
        let mut rows = [0; size_of::<u64>()];
        reader.read_exact(&mut rows)?;
        let mut digest = Sha256::new();
        digest.update(rows);
        let rows = usize::try_from(u64::from_le_bytes(rows)).unwrap_or(usize::MAX);
        let bytes = self.columns.iter().try_fold(0usize, |sum, column| sum.checked_add(column.bytes(rows)?));
        let Some(bytes) = bytes.filter(|&bytes| rows > 0 && bytes as u64 <= length - self.end - fixed) else {
            return Ok(None);
        };
        std::io::copy(&mut (&mut reader).take(bytes as u64), &mut digest)?;
        let mut sum = [0; SUM_BYTES];
        reader.read_exact(&mut sum)?;
        Ok((digest.finalize()[..SUM_BYTES] == sum).then_some((rows, bytes as u64)))
    }

    fn read_id(&mut self, at: u64) -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Appends `block`, which has been checked. What could not be written is cut off again.
    pub fn append(&mut self, block: &LabelBlock) -> Result<()> {
        let Some(last) = block.last() else { return Ok(()) };
        self.check_still_there()?;
        let rows = (block.rows() as u64).to_le_bytes();
        let mut bytes = rows.to_vec();
        self.columns.iter().for_each(|column| bytes.extend(block.bytes_of(column.name)));
        let sum = Sha256::digest(&bytes);
        bytes.extend(&sum[..SUM_BYTES]);
        let written = (|| {
            self.file.seek(SeekFrom::Start(self.end))?;
            self.file.write_all(&bytes)?;
            if self.synced.elapsed() >= SYNC_EVERY {
                self.file.sync_data()?;
                self.synced = Instant::now();
            }
            Ok(())
        })();
        if let Err(e) = written {
            let _ = self.file.set_len(self.end);
            return Err(Error::io(&self.path, e));
        }
        self.blocks.push((self.end + rows.len() as u64, block.rows()));
        self.end += bytes.len() as u64;
        self.last = Some(last);
        Ok(())
    }

    /// Refuses to go on where the file was moved or removed: written to, it would be nobody's.
    pub fn check_still_there(&self) -> Result<()> {
        if self.path.is_file() {
            return Ok(());
        }
        let problem = format!("{} was moved or removed while it was written", self.path.display());
        Err(Error::setting(problem, "leave the output folder in place, and label again with --resume"))
    }

    /// Rows of all blocks.
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(|(_, rows)| rows).sum()
    }

    /// User and t of the last row.
    pub fn last(&self) -> Option<(u32, u32)> {
        self.last
    }

    /// What was cut off when it was opened, in words.
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// Writes the rows of all blocks of tensor number `index`.
    pub fn copy_column(&mut self, index: usize, out: &mut dyn Write) -> std::io::Result<()> {
        let bytes = |column: &Column, rows: usize| column.bytes(rows).unwrap_or(usize::MAX) as u64;
        for &(start, rows) in &self.blocks {
            let ahead: u64 = self.columns[..index].iter().map(|column| bytes(column, rows)).sum();
            self.file.seek(SeekFrom::Start(start + ahead))?;
            let own = bytes(&self.columns[index], rows);
            if std::io::copy(&mut (&mut self.file).take(own), out)? < own {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}
