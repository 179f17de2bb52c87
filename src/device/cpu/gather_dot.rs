//! Dot products of rows of x with chosen rows of a table, forward and backward. Bound by memory: every chosen row
//! is read once a choice.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use crate::device::destinations::Destinations;
use rayon::prelude::*;

/// x `[n, d]`, table `[v, d]` and the choice `ids: [n, k]`, all below v.
#[derive(Clone, Copy)]
pub struct Choice<'a, T> {
    /// `[n, d]`.
    pub x: &'a [T],
    /// `[v, d]`.
    pub table: &'a [T],
    /// `[n, k]`.
    pub ids: &'a [u32],
    /// Row length.
    pub d: usize,
    /// Choices a row of x.
    pub k: usize,
}

struct Forward<'a, T> {
    of: Choice<'a, T>,
    bias: Option<&'a [T]>,
    first: usize,
    y: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Choice { x, table, ids, d, k } = self.of;
        for (i, y) in self.y.iter_mut().enumerate() {
            let place = self.first + i;
            let (row, id) = (place / k, ids[place] as usize);
            let dot = simd::dot::<T, FMA>(&x[row * d..row * d + d], &table[id * d..id * d + d]);
            *y = match self.bias {
                Some(bias) => dot + bias[id],
                None => dot,
            };
        }
    }
}

/// yᵢⱼ = xᵢ·table\[idsᵢⱼ\] (+ bias\[idsᵢⱼ\]); `y: [n, k]`, `bias: [v]`.
pub fn forward<T: Float>(of: Choice<T>, bias: Option<&[T]>, y: &mut [T]) {
    let chunk = rows_per_task(of.d);
    y.par_chunks_mut(chunk).enumerate().for_each(|(task, y)| {
        simd::dispatch(Forward { of, bias, first: task * chunk, y });
    });
}

struct BackwardX<'a, T> {
    of: Choice<'a, T>,
    grad: &'a [T],
    first: usize,
    dx: &'a mut [T],
}

impl<T: Float> Kernel for BackwardX<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Choice { table, ids, d, k, .. } = self.of;
        self.dx.fill(T::ZERO);
        for (i, dx) in self.dx.chunks_exact_mut(d).enumerate() {
            let places = (self.first + i) * k..(self.first + i + 1) * k;
            for (&id, &grad) in ids[places.clone()].iter().zip(&self.grad[places]) {
                let id = id as usize;
                simd::axpy::<T, FMA>(grad, &table[id * d..id * d + d], dx);
            }
        }
    }
}

/// dxᵢ = Σⱼ gradᵢⱼ·table\[idsᵢⱼ\], in the order of j.
pub fn backward_x<T: Float>(of: Choice<T>, grad: &[T], dx: &mut [T]) {
    let rows = rows_per_task(of.d * of.k);
    dx.par_chunks_mut(rows * of.d.max(1)).enumerate().for_each(|(task, dx)| {
        simd::dispatch(BackwardX { of, grad, first: task * rows, dx });
    });
}

struct BackwardTable<'a, T> {
    of: Choice<'a, T>,
    grad: &'a [T],
    destinations: &'a Destinations,
    first: usize,
    dtable: &'a mut [T],
}

impl<T: Float> Kernel for BackwardTable<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Choice { x, d, k, .. } = self.of;
        self.dtable.fill(T::ZERO);
        for (i, dtable) in self.dtable.chunks_exact_mut(d).enumerate() {
            for &place in self.destinations.of(self.first + i) {
                let row = place as usize / k;
                simd::axpy::<T, FMA>(self.grad[place as usize], &x[row * d..row * d + d], dtable);
            }
        }
    }
}

/// dtable\[r\] = Σ gradᵢⱼ·xᵢ over the places with idsᵢⱼ = r, in their order.
pub fn backward_table<T: Float>(of: Choice<T>, grad: &[T], destinations: &Destinations, dtable: &mut [T]) {
    let rows = rows_per_task(of.d);
    dtable.par_chunks_mut(rows * of.d.max(1)).enumerate().for_each(|(task, dtable)| {
        simd::dispatch(BackwardTable { of, grad, destinations, first: task * rows, dtable });
    });
}

/// dbias\[r\] = Σ gradᵢⱼ over the places with idsᵢⱼ = r, in their order.
pub fn backward_bias<T: Float>(grad: &[T], destinations: &Destinations, dbias: &mut [T]) {
    dbias.par_iter_mut().with_min_len(1024).enumerate().for_each(|(row, dbias)| {
        *dbias = destinations.of(row).iter().map(|&place| grad[place as usize]).sum();
    });
}
