//! Gather of table rows by id, and its transpose, the scatter-add. Bound by memory.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use crate::device::Element;
use crate::device::destinations::Destinations;
use rayon::prelude::*;

/// yᵢ = row idᵢ of the tables laid one after another; `tables: [v, d]` each, `y: [ids, d]`. Ids are in range.
pub fn gather<T: Element>(ids: &[u32], tables: &[&[T]], d: usize, y: &mut [T]) {
    if d == 0 {
        return;
    }
    let row_of = |id: u32| {
        let mut at = id as usize * d;
        for table in tables {
            if at < table.len() {
                return &table[at..at + d];
            }
            at -= table.len();
        }
        unreachable!("ids were checked against the number of rows")
    };
    let rows = rows_per_task(d);
    y.par_chunks_mut(rows * d).zip(ids.par_chunks(rows)).for_each(|(y, ids)| {
        for (y, &id) in y.chunks_exact_mut(d).zip(ids) {
            y.copy_from_slice(row_of(id));
        }
    });
}

struct SumRows<'a, T> {
    dy: &'a [T],
    order: &'a [u32],
    sum: &'a mut [T],
}

impl<T: Float> Kernel for SumRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.sum.len();
        for &i in self.order {
            let dy = &self.dy[i as usize * d..][..d];
            for (sum, &dy) in self.sum.iter_mut().zip(dy) {
                *sum += dy;
            }
        }
    }
}

/// Row r of `table_grad: [v, d]` = Σ of those rows of `dy: [ids, d]` whose id is `first` + r, in row order.
pub fn scatter_add<T: Float>(
    destinations: &Destinations,
    first: usize,
    dy: &[T],
    d: usize,
    table_grad: &mut [T],
) {
    if d == 0 {
        return;
    }
    let rows = rows_per_task(d);
    table_grad.par_chunks_mut(rows * d).enumerate().for_each(|(task, table_grad)| {
        for (i, sum) in table_grad.chunks_exact_mut(d).enumerate() {
            sum.fill(T::ZERO);
            let order = destinations.of(first + task * rows + i);
            if !order.is_empty() {
                simd::dispatch(SumRows { dy, order, sum });
            }
        }
    });
}
