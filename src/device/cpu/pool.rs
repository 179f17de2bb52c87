//! Free buffers that are kept for the next one of their size.
//!
//! A new buffer is made only where, together with what is in use and kept, it is no more than has been needed at one time;
//! else free ones leave first, the one that lay there longest first. Only where none is free, because requests sit in
//! buffers larger than they need, is it more. So what a run over many packs of many sizes holds hangs on its largest pack,
//! not on their number.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// One cache line; buffers are made of them, and so aligned to it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(pub [u8; 64]);

// SAFETY: plain bytes, no padding, every bit pattern is valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

pub(super) const LINE: usize = size_of::<Line>();
/// Smaller buffers are left to the allocator.
pub(super) const POOLED_FROM: usize = 64 * 1024 / LINE;
/// The pool keeps at most this many bytes.
const POOL_BYTES: usize = 768 << 20;

/// Rounds large sizes up to one of eight steps a power of two, so that packs of slightly different length
/// share buffers.
pub(super) fn size_class(lines: usize) -> usize {
    if lines < POOLED_FROM {
        return lines;
    }
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.next_multiple_of(step)
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// All sizes are in lines.
pub(super) struct Pool {
    /// By size; of each the one that lay there longest first, with the number of its return.
    free: BTreeMap<usize, Vec<(u64, Vec<Line>)>>,
    free_lines: usize,
    /// Of buffers in use, as large as they are; a request may have been for less.
    used_lines: usize,
    /// What was asked for them.
    needed: usize,
    /// The most that was ever needed at one time.
    most_needed: usize,
    returns: u64,
}

impl Pool {
    pub const fn new() -> Self {
        Pool { free: BTreeMap::new(), free_lines: 0, used_lines: 0, needed: 0, most_needed: 0, returns: 0 }
    }

    /// A free buffer for `lines` lines, and what is to be returned to the system. Without one a new one of that size counts
    /// as in use from now on.
    pub fn take(&mut self, lines: usize) -> (Option<Vec<Line>>, Vec<Vec<Line>>) {
        self.needed += lines;
        self.most_needed = self.most_needed.max(self.needed);
        // None of more than twice the size, which larger requests would miss; but rather that than a new one where there
        // is room for none.
        let mut found = self.pop(lines..=2 * lines, false);
        if found.is_none() && self.held() + lines > self.most_needed {
            found = self.pop(lines..=usize::MAX, false);
        }
        self.used_lines += found.as_ref().map_or(lines, Vec::len);
        let mut left_over = Vec::new();
        if found.is_none() {
            // One that is somewhat too small goes first: the new one will serve in its place.
            left_over.extend(self.pop(lines / 2 + 1..=lines - 1, true));
            while self.held() > self.most_needed {
                let Some(oldest) = self.pop_oldest() else { break };
                left_over.push(oldest);
            }
        }
        (found, left_over)
    }

    /// Takes back a buffer that served a request for `needed` lines; what is to be returned to the system.
    pub fn give(&mut self, needed: usize, buffer: Vec<Line>) -> Option<Vec<Line>> {
        self.needed = self.needed.saturating_sub(needed);
        self.used_lines = self.used_lines.saturating_sub(buffer.len());
        if (self.free_lines + buffer.len()) * LINE > POOL_BYTES {
            return Some(buffer);
        }
        self.returns += 1;
        self.free_lines += buffer.len();
        self.free.entry(buffer.len()).or_default().push((self.returns, buffer));
        None
    }

    /// Takes out all free buffers, and forgets what was needed before.
    pub fn release(&mut self) -> Vec<Vec<Line>> {
        self.free_lines = 0;
        self.most_needed = self.needed;
        std::mem::take(&mut self.free).into_values().flatten().map(|(_, buffer)| buffer).collect()
    }

    fn held(&self) -> usize {
        self.used_lines + self.free_lines
    }

    /// Takes out a buffer whose size is in `sizes`: the smallest, or the largest.
    fn pop(&mut self, sizes: RangeInclusive<usize>, largest: bool) -> Option<Vec<Line>> {
        let mut there = self.free.range_mut(sizes).filter(|(_, free)| !free.is_empty());
        let (&size, free) = if largest { there.next_back() } else { there.next() }?;
        let (_, found) = free.pop()?;
        self.free_lines -= size;
        Some(found)
    }

    fn pop_oldest(&mut self) -> Option<Vec<Line>> {
        let there = self.free.iter_mut().filter(|(_, free)| !free.is_empty());
        let (&size, free) = there.min_by_key(|(_, free)| free[0].0)?;
        let (_, oldest) = free.remove(0);
        self.free_lines -= size;
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for a buffer as its user does; also whether it was a free one.
    fn ask(pool: &mut Pool, lines: usize) -> (Vec<Line>, bool) {
        let lines = size_class(lines);
        let (found, _) = pool.take(lines);
        let recycled = found.is_some();
        (found.unwrap_or_else(|| vec![bytemuck::Zeroable::zeroed(); lines]), recycled)
    }

    /// One that needs room for twice the sizes used below, so that nothing leaves for want of it.
    fn roomy() -> Pool {
        let mut pool = Pool::new();
        let all = [8192, 8192].map(|lines| ask(&mut pool, lines).0);
        all.into_iter().for_each(|buffer| assert!(pool.give(8192, buffer).is_none()));
        pool.free.clear();
        pool.free_lines = 0;
        pool
    }

    #[test]
    fn a_free_buffer_serves_its_own_class_and_smaller_ones_but_none_of_less_than_half() {
        let mut pool = roomy();
        let first = ask(&mut pool, 4001).0;
        assert!(pool.give(size_class(4001), first).is_none());
        let (same, recycled) = ask(&mut pool, 4010);
        assert!(recycled);
        assert!(pool.give(size_class(4010), same).is_none());
        let (_far_smaller, recycled) = ask(&mut pool, 1500);
        assert!(!recycled);
        let (_smaller, recycled) = ask(&mut pool, 2200);
        assert!(recycled);
    }

    #[test]
    fn where_there_is_room_for_none_a_request_is_served_by_any_that_is_large_enough() {
        let mut pool = Pool::new();
        let only = ask(&mut pool, 8192).0;
        assert!(pool.give(8192, only).is_none());
        let (found, recycled) = ask(&mut pool, 1100);
        assert_eq!((found.len(), recycled, pool.held()), (8192, true, 8192));
    }

    #[test]
    fn what_is_held_hangs_on_the_largest_pack_and_not_on_their_number() {
        let mut pool = Pool::new();
        let mut number = 1u64;
        let mut draw = |below: usize| {
            number = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (number >> 33) as usize % below
        };
        for _ in 0..2000 {
            // Rows of a pack, and a pass over it: some widths, each kept while the next two are made.
            let rows = 2000 + draw(2000);
            let mut kept = std::collections::VecDeque::new();
            for width in [1, 2, 4, 1, 3, 8, 1, 2] {
                let lines = size_class(rows * width);
                kept.push_back((lines, ask(&mut pool, lines).0));
                if kept.len() > 2 {
                    let (lines, buffer) = kept.pop_front().unwrap();
                    assert!(pool.give(lines, buffer).is_none());
                }
            }
            kept.drain(..).for_each(|(lines, buffer)| assert!(pool.give(lines, buffer).is_none()));
            // Requests of a pack of this kind sit in buffers of up to half as much again.
            assert!(2 * pool.held() <= 3 * pool.most_needed, "{} of {}", pool.held(), pool.most_needed);
            assert_eq!((pool.needed, pool.used_lines), (0, 0));
        }
        assert!(pool.release().iter().map(Vec::len).sum::<usize>() > 0);
        assert_eq!((pool.held(), pool.most_needed), (0, 0));
    }
}
