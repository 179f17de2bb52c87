//! Host memory of a tensor. Large buffers return to a pool instead of to the system: a labelling pass allocates
//! the same sizes thousands of times, and fresh pages cost more than the kernels that would fill them.
//!
//! A buffer can also be a part of a mapped file, which nobody reads before it is needed: see [`super::mapped`].

use super::mapped::Mapped;
use crate::device::{DType, Element};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;

/// One cache line; buffers are aligned to it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

// SAFETY: plain bytes, no padding, every bit pattern is valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

const LINE: usize = size_of::<Line>();
/// Smaller buffers are left to the allocator.
const POOLED_FROM: usize = 64 * 1024 / LINE;
/// The pool keeps at most this many bytes.
const POOL_BYTES: usize = 768 << 20;

struct Pool {
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    lines: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), lines: 0 });

/// A flat run of elements of one type in host memory, aligned to a cache line.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    /// What the elements are as long as nobody wrote to them; `lines` is empty then.
    mapped: Option<Mapped>,
    len: usize,
    dtype: DType,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Buffer {
    /// `len` elements of arbitrary content, for outputs that a kernel writes in full. Builds with debug
    /// assertions fill it with NaN (all bits set), so that an element left unwritten shows.
    pub fn scratch(dtype: DType, len: usize) -> Self {
        let needed = (len * dtype.size()).div_ceil(LINE);
        let lines = size_class(needed);
        let recycled = if lines >= POOLED_FROM { take(lines) } else { None };
        let mut lines = recycled.unwrap_or_else(|| vec![Line([0; LINE]); lines]);
        if cfg!(debug_assertions) {
            lines[..needed].fill(Line([0xff; LINE]));
        }
        Buffer { lines, mapped: None, len, dtype }
    }

    /// The elements of a mapped file, as f32.
    pub fn mapped(source: Mapped) -> Self {
        Buffer { lines: Vec::new(), len: source.len(), dtype: DType::F32, mapped: Some(source) }
    }

    /// `len` zeros.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        let mut buffer = Self::scratch(dtype, len);
        let needed = (len * dtype.size()).div_ceil(LINE);
        buffer.lines[..needed].fill(Line([0; LINE]));
        buffer
    }

    /// A copy of `data`.
    pub fn copy_of<T: Element>(data: &[T]) -> Self {
        let mut buffer = Self::scratch(T::DTYPE, data.len());
        buffer.as_mut_slice::<T>().copy_from_slice(data);
        buffer
    }

    /// The elements. Asking for another type than the buffer's is a defect of the caller and panics.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype, "a {} buffer was read as {}", self.dtype, T::DTYPE);
        match &self.mapped {
            Some(mapped) => bytemuck::cast_slice(mapped.values()),
            None => &bytemuck::cast_slice(&self.lines)[..self.len],
        }
    }

    /// The elements, to be written; those of a mapped file are copied first, the file stays as it is.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "a {} buffer was written as {}", self.dtype, T::DTYPE);
        if let Some(mapped) = self.mapped.take() {
            *self = Buffer::copy_of(mapped.values());
        }
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.lines.len() < POOLED_FROM {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let Ok(mut pool) = POOL.lock() else { return };
        if (pool.lines + lines.len()) * LINE <= POOL_BYTES {
            pool.lines += lines.len();
            pool.free.entry(lines.len()).or_default().push(lines);
        }
    }
}

/// A free buffer of at least that size, the smallest there is, but none of more than twice as much. Where there is none,
/// one that is somewhat too small leaves the pool: the new one will serve in its place. So packs of many sizes share the
/// buffers of the largest, and none keeps its own.
fn take(lines: usize) -> Option<Vec<Line>> {
    let mut pool = POOL.lock().ok()?;
    if let Some(found) = pool.pop(lines..=2 * lines, false) {
        return Some(found);
    }
    let too_small = pool.pop(lines / 2 + 1..=lines - 1, true);
    drop(pool);
    // Returned to the system outside of the lock.
    drop(too_small);
    None
}

impl Pool {
    /// Takes out a buffer whose size is in `sizes`: the smallest, or the largest.
    fn pop(&mut self, sizes: RangeInclusive<usize>, largest: bool) -> Option<Vec<Line>> {
        let mut there = self.free.range_mut(sizes).filter(|(_, free)| !free.is_empty());
        let (&size, free) = if largest { there.next_back() } else { there.next() }?;
        let found = free.pop()?;
        self.lines -= size;
        Some(found)
    }
}

/// Rounds large sizes up to one of eight steps a power of two, so that packs of slightly different length
/// share buffers.
fn size_class(lines: usize) -> usize {
    if lines < POOLED_FROM {
        return lines;
    }
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_buffer_serves_its_own_class_and_smaller_ones_but_none_of_less_than_half() {
        // Of a size that no other test has.
        let first = Buffer::zeros(DType::F32, 15_000_001);
        let place = first.as_slice::<f32>().as_ptr();
        let stands = |buffer: &Buffer| buffer.as_slice::<f32>().as_ptr() == place;
        drop(first);
        let same = Buffer::scratch(DType::F32, 15_000_100);
        assert!(stands(&same));
        drop(same);
        let far_smaller = Buffer::scratch(DType::F32, 6_000_000);
        assert!(!stands(&far_smaller));
        let smaller = Buffer::zeros(DType::F32, 9_000_000);
        assert!(stands(&smaller));
        assert_eq!((smaller.len(), smaller.as_slice::<f32>().iter().any(|x| *x != 0.0)), (9_000_000, false));
    }

    #[test]
    fn scratch_is_poisoned_in_debug_builds() {
        let buffer = Buffer::scratch(DType::F64, 9);
        assert!(!cfg!(debug_assertions) || buffer.as_slice::<f64>().iter().all(|x| x.is_nan()));
    }
}
