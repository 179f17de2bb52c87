//! Copies of rows and columns into one matrix and out of it. Bound by memory.

use super::{Float, rows_per_task};
use rayon::prelude::*;
use std::ops::Range;

/// y = the parts one after another.
pub fn rows<T: Float>(parts: &[&[T]], y: &mut [T]) {
    let chunk = rows_per_task(1);
    let mut rest = y;
    for part in parts {
        let (y, after) = rest.split_at_mut(part.len());
        y.par_chunks_mut(chunk).zip(part.par_chunks(chunk)).for_each(|(y, x)| y.copy_from_slice(x));
        rest = after;
    }
}

/// y = [a | b]; `a: [rows, widths[0]]`, `b: [rows, widths[1]]`.
pub fn columns<T: Float>([a, b]: [&[T]; 2], widths: [usize; 2], y: &mut [T]) {
    let width = widths[0] + widths[1];
    if width == 0 {
        return;
    }
    let rows = rows_per_task(width);
    y.par_chunks_mut(rows * width).enumerate().for_each(|(task, y)| {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let row = task * rows + i;
            let (left, right) = y.split_at_mut(widths[0]);
            left.copy_from_slice(&a[row * widths[0]..][..widths[0]]);
            right.copy_from_slice(&b[row * widths[1]..][..widths[1]]);
        }
    });
}

/// part = the `columns` of `y: [rows, width]`.
pub fn take_columns<T: Float>(y: &[T], width: usize, columns: Range<usize>, part: &mut [T]) {
    if columns.is_empty() {
        return;
    }
    let rows = rows_per_task(width);
    part.par_chunks_mut(rows * columns.len()).zip(y.par_chunks(rows * width)).for_each(|(part, y)| {
        for (part, y) in part.chunks_exact_mut(columns.len()).zip(y.chunks_exact(width)) {
            part.copy_from_slice(&y[columns.clone()]);
        }
    });
}
