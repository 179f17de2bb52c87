//! Host memory of a tensor. Large buffers return to a pool instead of to the system: a labelling pass allocates
//! the same sizes thousands of times, and fresh pages cost more than the kernels that would fill them.
//!
//! A buffer can also be a part of a mapped file, which nobody reads before it is needed: see [`super::mapped`].

use super::mapped::Mapped;
use super::pool::{LINE, Line, POOLED_FROM, Pool, size_class};
use crate::device::{DType, Element};
use std::sync::Mutex;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// A flat run of elements of one type in host memory, aligned to a cache line.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    /// What the elements are as long as nobody wrote to them; `lines` is empty then.
    mapped: Option<Mapped>,
    len: usize,
    dtype: DType,
    /// What products keep of a frozen weight.
    #[cfg(target_arch = "x86_64")]
    kept: super::kept::Kept,
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
        Self::of(lines, None, len, dtype)
    }

    fn of(lines: Vec<Line>, mapped: Option<Mapped>, len: usize, dtype: DType) -> Self {
        Buffer {
            lines,
            mapped,
            len,
            dtype,
            #[cfg(target_arch = "x86_64")]
            kept: Default::default(),
        }
    }

    /// The elements of a mapped file, as f32.
    pub fn mapped(source: Mapped) -> Self {
        let len = source.len();
        Self::of(Vec::new(), Some(source), len, DType::F32)
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
        #[cfg(target_arch = "x86_64")]
        {
            self.kept = Default::default();
        }
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }

    /// Where products keep what they make of the elements; gone once these are written.
    #[cfg(target_arch = "x86_64")]
    pub fn kept(&self) -> &super::kept::Kept {
        &self.kept
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
        let needed = size_class((self.len * self.dtype.size()).div_ceil(LINE));
        let Ok(mut pool) = POOL.lock() else { return };
        let left_over = pool.give(needed, lines);
        drop(pool);
        // Returned to the system outside of the lock, here and below.
        drop(left_over);
    }
}

/// A free buffer of at least that size, or none; then a new one of just that size is accounted for.
fn take(lines: usize) -> Option<Vec<Line>> {
    let mut pool = POOL.lock().ok()?;
    let (found, left_over) = pool.take(lines);
    drop(pool);
    drop(left_over);
    found
}

/// Returns all free buffers to the system. A stage that ends leaves them to the next one, which may need other sizes:
/// between two of them, it makes the next one's memory its own.
pub fn release_free_buffers() {
    let Ok(mut pool) = POOL.lock() else { return };
    let free = pool.release();
    drop(pool);
    drop(free);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_buffer_of_zeros_is_zero() {
        for _ in 0..3 {
            let mut buffer = Buffer::zeros(DType::F32, 150_001);
            assert!(buffer.len() == 150_001 && buffer.as_slice::<f32>().iter().all(|x| *x == 0.0));
            buffer.as_mut_slice::<f32>().fill(1.0);
        }
    }

    #[test]
    fn scratch_is_poisoned_in_debug_builds() {
        let buffer = Buffer::scratch(DType::F64, 9);
        assert!(!cfg!(debug_assertions) || buffer.as_slice::<f64>().iter().all(|x| x.is_nan()));
    }
}
