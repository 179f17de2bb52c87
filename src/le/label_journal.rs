//! What is labelled of a file that is not finished: blocks of labels, appended as they come.
//!
//! ```text
//! line    JSON: format, first_user, end_user, header of the labelling
//! block   rows u64, the tensors' rows one tensor after the other, the first 16 bytes of the SHA-256 of both
//! block   …
//! ```
//! A kill, a full disk or a power failure can leave the last block torn, and a disk can damage any. Opened again, the
//! journal keeps the blocks that are whole: those whose sum holds. What lies between them is taken out, what follows
//! them is cut off; the steps that were there are labelled again and their blocks appended, so that blocks of a mended
//! journal are not in the order of their steps.

use super::label_blocks::{self, Block, Found, Gap, SUM_BYTES, Step};
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
    users: Range<u32>,
    /// In the order of their steps.
    blocks: Vec<Block>,
    end: u64,
    synced: Instant,
    /// What was lost when it was opened.
    lost: Option<Box<str>>,
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
            return Err(held(path));
        }
        let mut journal = Journal {
            path: path.to_path_buf(),
            file,
            columns: columns(header),
            users: users.clone(),
            blocks: Vec::new(),
            end: 0,
            synced: Instant::now(),
            lost: None,
        };
        match journal.read_head(header, users)? {
            Some(length) => {
                let found = journal.find(length).map_err(io)?;
                journal.mend(found).map_err(io)?;
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
        let mut file = File::open(path).map_err(io)?;
        BufReader::new(&file).take(LONGEST_HEAD).read_until(b'\n', &mut line).map_err(io)?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        let head: Head = serde_json::from_slice(&line).map_err(|e| {
            Error::invalid(path, "line 1", format!("the file is no part of labels: {e}"), "remove the file")
        })?;
        let users = head.first_user..head.end_user;
        let found = label_blocks::find(&mut file, &columns(&head.header), &users, line.len() as u64);
        let blocks = found.map_err(io)?.blocks;
        let last = blocks.iter().map(|block| block.last).max();
        Ok(Some(Peek { users, last, rows: blocks.iter().map(|block| block.rows).sum() }))
    }

    /// Refuses a journal that another run is writing, before anything is touched; one that is missing is fine.
    pub fn refuse_if_held(path: &Path) -> Result<()> {
        match File::open(path).map(|file| file.try_lock_shared()) {
            Ok(Err(TryLockError::WouldBlock)) => Err(held(path)),
            _ => Ok(()),
        }
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

    fn find(&mut self, start: u64) -> std::io::Result<Found> {
        label_blocks::find(&mut self.file, &self.columns, &self.users, start)
    }

    /// Takes out what was damaged and cuts off what is torn, and keeps what is to be said of it.
    fn mend(&mut self, found: Found) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        let tail = found.end..length;
        let damaged_tail = Some(&tail).filter(|_| found.tail_is_long_enough);
        let mut told: Vec<String> =
            found.damaged.iter().chain(damaged_tail).map(|bytes| self.damage(bytes, &found.blocks)).collect();
        if !tail.is_empty() && damaged_tail.is_none() {
            let torn = tail.end - tail.start;
            let row = self.columns.iter().filter_map(|column| column.bytes(1)).sum::<usize>().max(1) as u64;
            told.push(format!(
                "{}: cut off a torn end of {torn} bytes, at most {} steps, which are labelled again",
                self.path.display(),
                torn.div_ceil(row),
            ));
        }
        self.end = found.damaged.first().map_or(found.end, |bytes| bytes.start);
        for mut block in found.blocks {
            if block.start > self.end {
                self.move_down(&block)?;
                block.start = self.end;
            }
            self.end = self.end.max(block.start + block.bytes);
            self.insert(block);
        }
        self.file.set_len(self.end)?;
        if let Some(last) = told.last_mut() {
            last.push_str(&format!("; {} steps stand", self.rows()));
            self.lost = Some(told.join("\n").into());
        }
        Ok(())
    }

    /// What is to be said of the damaged `bytes` beside `blocks`.
    fn damage(&self, bytes: &Range<u64>, blocks: &[Block]) -> String {
        let step = |(user, t): Step| format!("step {t} of user {user}");
        let ahead = blocks.iter().rev().find(|block| block.start < bytes.start);
        let behind = blocks.iter().find(|block| block.start >= bytes.end);
        let from = ahead.map_or("the first".into(), |block| format!("those behind {}", step(block.last)));
        let to = behind.map_or("the last".into(), |block| format!("those ahead of {}", step(block.first)));
        format!(
            "{}: damaged at byte {}, within {} bytes whose sum does not hold; the steps from {from} to {to} are \
             labelled again",
            self.path.display(),
            bytes.start,
            bytes.end - bytes.start
        )
    }

    /// Moves `block` down to the journal's end. Where that is cut short the sum of what it leaves does not hold, and the
    /// block's steps are labelled again.
    fn move_down(&mut self, block: &Block) -> std::io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut moved = 0;
        while moved < block.bytes {
            let some = buffer.len().min((block.bytes - moved) as usize);
            self.file.seek(SeekFrom::Start(block.start + moved))?;
            self.file.read_exact(&mut buffer[..some])?;
            self.file.seek(SeekFrom::Start(self.end + moved))?;
            self.file.write_all(&buffer[..some])?;
            moved += some as u64;
        }
        Ok(())
    }

    /// Adds `block` in its place; one whose steps are there already is not used.
    fn insert(&mut self, block: Block) {
        let at = self.place_of(block.first);
        let after = at == 0 || self.blocks[at - 1].last < block.first;
        let before = self.blocks.get(at).is_none_or(|next| block.last < next.first);
        if after && before {
            self.blocks.insert(at, block);
        }
    }

    /// Number of blocks that begin ahead of `step`.
    fn place_of(&self, step: Step) -> usize {
        self.blocks.partition_point(|block| block.first < step)
    }

    /// Appends `block`, which has been checked. What could not be written is cut off again.
    pub fn append(&mut self, block: &LabelBlock) -> Result<()> {
        let (Some(first), Some(last)) = (block.first(), block.last()) else { return Ok(()) };
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
        let bytes = bytes.len() as u64;
        self.insert(Block { start: self.end, rows: block.rows(), bytes, first, last });
        self.end += bytes;
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
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// User and t of the last step.
    pub fn last(&self) -> Option<Step> {
        self.blocks.last().map(|block| block.last)
    }

    /// The last step ahead of `step` and the first from there on.
    pub fn neighbours(&self, step: Step) -> Gap {
        let at = self.place_of(step);
        let ahead = at.checked_sub(1).map(|i| self.blocks[i].last);
        (ahead, self.blocks.get(at).map(|block| block.first))
    }

    /// Where steps may be missing, as user and t of those beside: ahead of the first block, between two that do not
    /// follow each other, and, always, behind the last.
    pub fn gaps(&self) -> Vec<Gap> {
        let ahead = std::iter::once(None).chain(self.blocks.iter().map(|block| Some(block.last)));
        let behind = self.blocks.iter().map(|block| Some(block.first)).chain(std::iter::once(None));
        let follows = |(ahead, behind): &Gap| match (ahead, behind) {
            (_, None) => false,
            (None, Some(first)) => *first == (self.users.start, 0),
            (Some((user, t)), Some(next)) => [(*user, t + 1), (user + 1, 0)].contains(next),
        };
        ahead.zip(behind).filter(|gap| !follows(gap)).collect()
    }

    /// What was lost when it was opened, in words.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Writes the rows of all blocks of tensor number `index`.
    pub fn copy_column(&mut self, index: usize, out: &mut dyn Write) -> std::io::Result<()> {
        let bytes = |column: &Column, rows: usize| column.bytes(rows).unwrap_or(usize::MAX) as u64;
        for block in &self.blocks {
            let ahead: u64 = self.columns[..index].iter().map(|column| bytes(column, block.rows)).sum();
            self.file.seek(SeekFrom::Start(block.tensors() + ahead))?;
            let own = bytes(&self.columns[index], block.rows);
            if std::io::copy(&mut (&mut self.file).take(own), out)? < own {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

fn held(path: &Path) -> Error {
    let problem = format!("another run of lea is writing to {} now", path.display());
    Error::setting(problem, "wait for its end, stop it, or name another folder with --out")
}
