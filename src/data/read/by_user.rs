//! The users of an imported folder, read from its table as they are asked for.
//!
//! The table has the events of one user after the other, in order. It is gone through once when it is opened, for its
//! hashes and to note where each block of some thousand events lies and what it holds; then a block is read when one of
//! its users is asked for. So memory does not grow with the users, and who goes through them in order reads the table once.

use super::interner::Interner;
use crate::data::dataset::{Event, Feedback, Item, StreamedHashes};
use crate::data::histories::Histories;
use crate::data::save::INTERACTIONS_HEADER;
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A block ends with the first user that brings it to so many events.
const BLOCK_EVENTS: usize = 4096;
/// Blocks that are kept: a pack of users and those that follow it lie in no more of them, as a rule.
const KEPT_BLOCKS: usize = 4;

/// Where a block lies in the table.
struct Place {
    users: Range<u32>,
    bytes: Range<u64>,
    /// Of its lines, to know them again.
    digest: u64,
}

/// The users of an imported table.
pub struct StoredUsers {
    path: PathBuf,
    items: Interner,
    blocks: Vec<Place>,
    interactions_hash: String,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    /// The block that was used last stands at the end.
    kept: VecDeque<Block>,
}

struct Block {
    number: usize,
    /// Where each user's events end.
    ends: Vec<usize>,
    events: Vec<Event>,
}

/// What opening a table tells beside its users.
pub(in crate::data) struct Opened {
    pub users: StoredUsers,
    /// Hash of all content, texts included.
    pub hash: String,
}

impl StoredUsers {
    /// Opens the table at `path` of `users` users over `items`. `None` where it is not as an import writes it.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(in crate::data) fn open(path: &Path, items: &[Item], users: usize) -> Result<Option<Opened>> {
        let io = |e| Error::io(path, e);
        let file = File::open(path).map_err(io)?;
        let mut ids = Interner::default();
        if items.iter().any(|item| ids.number(&item.id).is_none()) {
            return Ok(None);
        }
        let mut scan = Scan::new(items, users);
        let mut reader = BufReader::with_capacity(1 << 16, &file);
        let (mut line, mut first) = (Vec::new(), true);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(io)? == 0 {
                break;
            }
            let known = if first { scan.header(&line) } else { scan.add(&line, &ids) };
            if known.is_none() {
                return Ok(None);
            }
            first = false;
        }
        let Some((blocks, hashes)) = scan.finish() else { return Ok(None) };
        let (hash, interactions_hash) = hashes.finish();
        drop(reader);
        let open = Mutex::new(Open { file, kept: VecDeque::new() });
        let path = path.to_path_buf();
        let users = StoredUsers { path, items: ids, blocks, interactions_hash, open };
        Ok(Some(Opened { users, hash }))
    }

    fn block_of(&self, user: u32) -> usize {
        self.blocks.partition_point(|block| block.users.end <= user)
    }

    /// Runs `work` on the block `number`.
    fn with_block<T>(&self, number: usize, work: impl FnOnce(&Block) -> T) -> Result<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let block = match open.kept.iter().position(|block| block.number == number) {
            Some(at) => open.kept.remove(at),
            None => None,
        };
        let block = match block {
            Some(block) => block,
            None => {
                if open.kept.len() >= KEPT_BLOCKS {
                    open.kept.pop_front();
                }
                let text = self.text(&mut open.file, number)?;
                self.parse(number, &text).ok_or_else(|| self.changed())?
            }
        };
        let result = work(&block);
        open.kept.push_back(block);
        Ok(result)
    }

    /// The lines of a block, which are still those that were there when the table was opened.
    fn text(&self, file: &mut File, number: usize) -> Result<Vec<u8>> {
        let Place { bytes, digest, .. } = &self.blocks[number];
        let io = |e: std::io::Error| match e.kind() {
            ErrorKind::UnexpectedEof => self.changed(),
            _ => Error::io(&self.path, e),
        };
        let mut text = vec![0; (bytes.end - bytes.start) as usize];
        file.seek(SeekFrom::Start(bytes.start)).map_err(io)?;
        file.read_exact(&mut text).map_err(io)?;
        let mut hasher = DefaultHasher::new();
        text.split_inclusive(|&byte| byte == b'\n').for_each(|line| hasher.write(line));
        if hasher.finish() == *digest { Ok(text) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Error {
        let problem = "it was changed while it was read";
        Error::invalid(&self.path, "content", problem, "leave the data in place, and start again")
    }

    fn parse(&self, number: usize, text: &[u8]) -> Option<Block> {
        let (mut ends, mut events) = (Vec::new(), Vec::with_capacity(BLOCK_EVENTS));
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let row = Row::of(text_of(line)?, &self.items)?;
            if row.position == 0 && !events.is_empty() {
                ends.push(events.len());
            }
            events.push(row.event);
        }
        ends.push(events.len());
        Some(Block { number, ends, events })
    }
}

impl Histories for StoredUsers {
    fn count(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.users.end as usize)
    }

    fn events(&self, user: u32) -> Result<Cow<'_, [Event]>> {
        let number = self.block_of(user);
        let at = (user - self.blocks[number].users.start) as usize;
        self.with_block(number, |block| Cow::Owned(block.events[block.range(at)].to_vec()))
    }

    fn id(&self, user: u32) -> Result<String> {
        let number = self.block_of(user);
        let at = (user - self.blocks[number].users.start) as usize;
        let row = self.with_block(number, |block| block.range(at).start)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.text(&mut open.file, number)?;
        let line = text.split(|&byte| byte == b'\n').nth(row);
        let row = line.and_then(|line| std::str::from_utf8(line).ok()).and_then(|l| Row::of(l, &self.items));
        row.map(|row| row.user.to_string()).ok_or_else(|| self.changed())
    }

    fn interactions_hash(&self) -> String {
        self.interactions_hash.clone()
    }
}

impl Block {
    /// Events of the user number `at` of the block.
    fn range(&self, at: usize) -> Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start..self.ends[at]
    }
}

/// A line without its end; `None` without one, or where it is no text.
fn text_of(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line.strip_suffix(b"\n")?).ok()
}

/// A line of the table.
struct Row<'a> {
    user: &'a str,
    position: usize,
    event: Event,
}

impl<'a> Row<'a> {
    fn of(line: &'a str, items: &Interner) -> Option<Self> {
        let mut cells = line.split('\t');
        let (user, item, position, kind) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        let item = items.find(item)?;
        let kind = match kind {
            "click" => Feedback::Click,
            "buy" => Feedback::Buy,
            "other" => Feedback::Other,
            _ => return None,
        };
        let position = position.parse().ok()?;
        cells.next().is_none().then_some(Row { user, position, event: Event { item, kind } })
    }
}

/// The first pass over a table.
struct Scan {
    hashes: StreamedHashes,
    users: usize,
    blocks: Vec<Place>,
    /// First user and first byte of the block.
    start: (u32, u64),
    /// Of the lines of the block so far.
    hasher: DefaultHasher,
    /// Events of the block so far, without those of the user.
    in_block: usize,
    /// Users that are complete.
    done: u32,
    user: String,
    events: Vec<Event>,
    /// Byte of the next line.
    at: u64,
}

impl Scan {
    fn new(items: &[Item], users: usize) -> Self {
        Scan {
            hashes: StreamedHashes::new(items, users),
            users,
            blocks: Vec::new(),
            start: (0, 0),
            hasher: DefaultHasher::new(),
            in_block: 0,
            done: 0,
            user: String::new(),
            events: Vec::new(),
            at: 0,
        }
    }

    /// Takes the first line; `None` where it is another.
    fn header(&mut self, line: &[u8]) -> Option<()> {
        self.at = line.len() as u64;
        self.start.1 = self.at;
        (text_of(line)? == INTERACTIONS_HEADER).then_some(())
    }

    /// Takes a line; `None` where it is not what follows in the table of an import.
    fn add(&mut self, line: &[u8], items: &Interner) -> Option<()> {
        let row = Row::of(text_of(line)?, items)?;
        if row.position == 0 {
            self.end_user()?;
            if self.in_block >= BLOCK_EVENTS {
                self.end_block();
            }
            self.user.replace_range(.., row.user);
        }
        if row.position != self.events.len() || row.user != self.user {
            return None;
        }
        self.events.push(row.event);
        self.hasher.write(line);
        self.at += line.len() as u64;
        Some(())
    }

    fn end_user(&mut self) -> Option<()> {
        if !self.events.is_empty() {
            self.hashes.add(&self.user, &self.events);
            self.in_block += self.events.len();
            self.done = self.done.checked_add(1)?;
            self.events.clear();
        }
        Some(())
    }

    fn end_block(&mut self) {
        let digest = std::mem::take(&mut self.hasher).finish();
        self.blocks.push(Place { users: self.start.0..self.done, bytes: self.start.1..self.at, digest });
        self.start = (self.done, self.at);
        self.in_block = 0;
    }

    /// The blocks and the hashes; `None` where users are missing.
    fn finish(mut self) -> Option<(Vec<Place>, StreamedHashes)> {
        self.end_user()?;
        self.end_block();
        let whole = self.done > 0 && self.done as usize == self.users;
        whole.then_some((self.blocks, self.hashes))
    }
}
