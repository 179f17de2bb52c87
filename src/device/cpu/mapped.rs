//! f32 values that lie in a mapped file, as they are or as halves: pages are read when a kernel comes to them.
//!
//! Halves become f32 at their first use, all of the tensor at once, and stay so: a pass over a decoder widens layer
//! after layer, and what is never used is never read.

use crate::device::DType;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Elements that are widened by one task.
const CHUNK: usize = 1 << 16;

/// A part of a mapped file.
#[derive(Debug)]
pub struct Mapped {
    map: Arc<Mmap>,
    bytes: Range<usize>,
    dtype: DType,
    /// The values, where they are not in the file as such.
    widened: OnceLock<Vec<f32>>,
}

impl Mapped {
    /// Little-endian values of type `dtype` in `bytes` of `map`; `None` where they are not aligned to their type, or of
    /// a type that is neither f32, f16 nor bf16.
    pub fn new(map: Arc<Mmap>, bytes: Range<usize>, dtype: DType) -> Option<Self> {
        let known = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        let part = map.get(bytes.clone())?;
        let aligned =
            part.as_ptr().addr().is_multiple_of(dtype.size()) && part.len().is_multiple_of(dtype.size());
        (known && aligned).then(|| Mapped { bytes, dtype, widened: OnceLock::new(), map })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        let bytes = &self.map[self.bytes.clone()];
        match self.dtype {
            DType::F16 => self.widened.get_or_init(|| widen(bytemuck::cast_slice::<u8, f16>(bytes))),
            DType::BF16 => self.widened.get_or_init(|| widen(bytemuck::cast_slice::<u8, bf16>(bytes))),
            _ => bytemuck::cast_slice(bytes),
        }
    }
}

/// In parallel, unless this is a thread of the pool itself: it could be given a task that waits for these values.
fn widen<T: Copy + Into<f32> + Sync>(halves: &[T]) -> Vec<f32> {
    let mut values = vec![0.0f32; halves.len()];
    let fill = |(values, halves): (&mut [f32], &[T])| {
        values.iter_mut().zip(halves).for_each(|(value, &half)| *value = half.into());
    };
    match rayon::current_thread_index() {
        None => values.par_chunks_mut(CHUNK).zip(halves.par_chunks(CHUNK)).for_each(fill),
        Some(_) => fill((&mut values, halves)),
    }
    values
}
