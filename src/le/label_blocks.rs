//! The blocks of a journal of labels, found again in its file: those whose sum holds, also behind bytes that were damaged.

use super::label_files::Column;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes of the sum behind a block: the first of its SHA-256.
pub(super) const SUM_BYTES: usize = 16;
const COUNT_BYTES: u64 = size_of::<u64>() as u64;
/// Bytes of a block besides those of its tensors.
const FIXED: u64 = COUNT_BYTES + SUM_BYTES as u64;
/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// User and t of a step.
pub(super) type Step = (u32, u32);

/// User and t of the steps beside a place of a label file where steps may be missing; `None` is the file's beginning or end.
pub type Gap = (Option<(u32, u32)>, Option<(u32, u32)>);

/// A block: rows u64, the tensors' rows one tensor after the other, the sum of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Its first byte.
    pub start: u64,
    pub rows: usize,
    /// Bytes of all of it.
    pub bytes: u64,
    pub first: Step,
    pub last: Step,
}

impl Block {
    /// First byte of its tensors.
    pub fn tensors(&self) -> u64 {
        self.start + COUNT_BYTES
    }
}

/// What a file holds behind its first line.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whole blocks, in the order of the file.
    pub blocks: Vec<Block>,
    /// Bytes ahead of and between blocks that are no whole block.
    pub damaged: Vec<Range<u64>>,
    /// Past the last whole block.
    pub end: u64,
    /// Whether what follows there is as long as a block says it is: not cut short, but damaged.
    pub tail_is_long_enough: bool,
}

/// Finds the blocks of `file`, which are of `users`, from byte `start` on.
pub(super) fn find(
    file: &mut File,
    columns: &[Column],
    users: &Range<u32>,
    start: u64,
) -> std::io::Result<Found> {
    let length = file.metadata()?.len();
    let row_bytes = columns.iter().try_fold(0usize, |sum, column| sum.checked_add(column.bytes(1)?));
    let row_bytes = row_bytes.map_or(u64::MAX, |bytes| bytes.max(1) as u64);
    let mut search = Search { file, row_bytes, users, length };
    let mut found = Found { end: start, ..Found::default() };
    while found.end < length {
        let block = search.whole_block(found.end)?;
        let block = match block {
            Some(block) => Some(block),
            None => search.next_block(found.end + 1)?,
        };
        let Some(block) = block else { break };
        if block.start > found.end {
            found.damaged.push(found.end..block.start);
        }
        found.end = block.start + block.bytes;
        found.blocks.push(block);
    }
    found.tail_is_long_enough = found.end < length && search.extent(found.end)?.is_some();
    Ok(found)
}

struct Search<'a> {
    file: &'a mut File,
    row_bytes: u64,
    users: &'a Range<u32>,
    length: u64,
}

impl Search<'_> {
    /// Rows and bytes of a block at `start`, as it says itself; `None` where the file has no room for it.
    fn extent(&mut self, start: u64) -> std::io::Result<Option<(u64, u64)>> {
        if self.length.saturating_sub(start) < FIXED {
            return Ok(None);
        }
        let mut rows = [0; COUNT_BYTES as usize];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut rows)?;
        let rows = u64::from_le_bytes(rows);
        let fits = rows > 0 && rows <= (self.length - start - FIXED) / self.row_bytes;
        Ok(fits.then(|| (rows, rows * self.row_bytes + FIXED)))
    }

    /// The block at `start` if its sum holds.
    fn whole_block(&mut self, start: u64) -> std::io::Result<Option<Block>> {
        let Some((rows, bytes)) = self.extent(start)? else { return Ok(None) };
        self.file.seek(SeekFrom::Start(start))?;
        let mut reader = BufReader::with_capacity(CHUNK, &mut *self.file);
        let mut digest = Sha256::new();
        std::io::copy(&mut (&mut reader).take(bytes - SUM_BYTES as u64), &mut digest)?;
        let mut sum = [0; SUM_BYTES];
        reader.read_exact(&mut sum)?;
        if digest.finalize()[..SUM_BYTES] != sum {
            return Ok(None);
        }
        let (first, last) = (self.step(start, rows, 0)?, self.step(start, rows, rows - 1)?);
        Ok(Some(Block { start, rows: rows as usize, bytes, first, last }))
    }

    /// The first whole block that begins at `from` or later. Nothing marks where blocks begin, so every byte is tried;
    /// few look like the count and the first user of a block, and of those alone the sum is taken.
    fn next_block(&mut self, from: u64) -> std::io::Result<Option<Block>> {
        const LOOK: usize = COUNT_BYTES as usize + size_of::<u32>();
        let mut buffer = Vec::new();
        for at in (from..self.length).step_by(CHUNK) {
            buffer.clear();
            self.file.seek(SeekFrom::Start(at))?;
            (&mut *self.file).take((CHUNK + LOOK - 1) as u64).read_to_end(&mut buffer)?;
            for (start, look) in (at..).zip(buffer.windows(LOOK)) {
                let (rows, user) = look.split_at(COUNT_BYTES as usize);
                let rows = rows.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
                let user = user.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
                let fits = rows > 0 && rows <= self.length / self.row_bytes && self.users.contains(&user);
                if fits
                    && self.looks_like_a_block(start)?
                    && let Some(block) = self.whole_block(start)?
                {
                    return Ok(Some(block));
                }
            }
        }
        Ok(None)
    }

    fn looks_like_a_block(&mut self, start: u64) -> std::io::Result<bool> {
        let Some((rows, _)) = self.extent(start)? else { return Ok(false) };
        let (first, last) = (self.step(start, rows, 0)?, self.step(start, rows, rows - 1)?);
        Ok(first <= last && self.users.contains(&last.0))
    }

    /// User and t in row `row`: the first two tensors.
    fn step(&mut self, start: u64, rows: u64, row: u64) -> std::io::Result<Step> {
        let mut id = |tensor: u64| {
            let mut bytes = [0; 4];
            self.file.seek(SeekFrom::Start(start + COUNT_BYTES + 4 * (tensor * rows + row)))?;
            self.file.read_exact(&mut bytes)?;
            Ok::<u32, std::io::Error>(u32::from_le_bytes(bytes))
        };
        Ok((id(0)?, id(1)?))
    }
}
