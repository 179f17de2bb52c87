//! Copies of rows into one matrix. Bound by memory.

use super::rows_per_task;
use crate::device::Element;
use rayon::prelude::*;

/// y = the parts one after another.
pub fn rows<T: Element>(parts: &[&[T]], y: &mut [T]) {
    let chunk = rows_per_task(1);
    let mut rest = y;
    for part in parts {
        let (y, after) = rest.split_at_mut(part.len());
        y.par_chunks_mut(chunk).zip(part.par_chunks(chunk)).for_each(|(y, x)| y.copy_from_slice(x));
        rest = after;
    }
}
