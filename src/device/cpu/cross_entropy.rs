//! Softmax cross-entropy of rows, forward and backward, with an optional scale and mask of the logits. A row is
//! read twice, the second time from cache; the exponentials bound it, memory comes close.

use super::simd::{self, Kernel, LANES};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// Elements that pass through registers and the nearest cache at once.
const BLOCK: usize = 8 * LANES;

/// Logits of rows: `scale · x` where `mask` is not 0, −∞ elsewhere.
#[derive(Clone, Copy)]
pub struct Logits<'a, T> {
    /// `[rows, columns]`.
    pub x: &'a [T],
    /// `[rows, columns]`; `None` keeps all.
    pub mask: Option<&'a [u32]>,
    /// Factor, above 0.
    pub scale: T,
    /// Row length.
    pub columns: usize,
}

impl<'a, T: Float> Logits<'a, T> {
    /// Rows `from..to`.
    fn rows(&self, from: usize, to: usize) -> Self {
        let range = from * self.columns..to * self.columns;
        Logits { x: &self.x[range.clone()], mask: self.mask.map(|m| &m[range]), ..*self }
    }

    /// The logits at `from..from + BLOCK` of this single row; −∞ beyond its end.
    #[inline(always)]
    fn block(&self, from: usize) -> [T; BLOCK] {
        let mut block = [T::NEG_INFINITY; BLOCK];
        // A full block has a length that the compiler knows.
        match self.x[from..].first_chunk::<BLOCK>() {
            Some(x) => block.iter_mut().zip(x).for_each(|(b, &x)| *b = x * self.scale),
            None => block.iter_mut().zip(&self.x[from..]).for_each(|(b, &x)| *b = x * self.scale),
        }
        if let Some(mask) = self.mask {
            for (b, &keep) in block.iter_mut().zip(&mask[from..]) {
                *b = if keep == 0 { T::NEG_INFINITY } else { *b };
            }
        }
        block
    }

    /// log Σ exp of this single row.
    #[inline(always)]
    fn log_sum_exp<const FMA: bool>(&self) -> T {
        if self.mask.is_some() {
            return self.log_sum_exp_masked::<FMA>();
        }
        let top = simd::max(self.x) * self.scale;
        let sum = simd::sum_of(self.x, |x| x.mul_add::<FMA>(self.scale, -top).exp::<FMA>());
        top + sum.ln()
    }

    #[inline(always)]
    fn log_sum_exp_masked<const FMA: bool>(&self) -> T {
        let mut top = T::NEG_INFINITY;
        for from in (0..self.columns).step_by(BLOCK) {
            top = top.max(simd::max(&self.block(from)));
        }
        let mut lanes = [T::ZERO; LANES];
        for from in (0..self.columns).step_by(BLOCK) {
            let mut block = self.block(from);
            for b in &mut block {
                *b = (*b - top).exp::<FMA>();
            }
            for part in block.chunks_exact(LANES) {
                for (lane, &b) in lanes.iter_mut().zip(part) {
                    *lane += b;
                }
            }
        }
        top + simd::sum_of(&lanes, |v| v).ln()
    }
}

struct Forward<'a, T> {
    logits: Logits<'a, T>,
    targets: &'a [u32],
    losses: &'a mut [T],
    log_sums: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, &target) in self.targets.iter().enumerate() {
            let row = self.logits.rows(i, i + 1);
            self.log_sums[i] = row.log_sum_exp::<FMA>();
            self.losses[i] = self.log_sums[i] - row.x[target as usize] * row.scale;
        }
    }
}

/// lossᵢ = log Σⱼ exp(logitᵢⱼ) − logitᵢₜ with t the target of row i; `targets, losses, log_sums: [rows]`. The log sums
/// are what backward needs.
pub fn forward<T: Float>(logits: Logits<T>, targets: &[u32], losses: &mut [T], log_sums: &mut [T]) {
    let rows = rows_per_task(logits.columns);
    let tasks = targets.par_chunks(rows).zip(losses.par_chunks_mut(rows)).zip(log_sums.par_chunks_mut(rows));
    tasks.enumerate().for_each(|(task, ((targets, losses), log_sums))| {
        let logits = logits.rows(task * rows, task * rows + targets.len());
        simd::dispatch(Forward { logits, targets, losses, log_sums });
    });
}

struct Backward<'a, T> {
    logits: Logits<'a, T>,
    targets: &'a [u32],
    log_sums: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, dx) in self.dx.chunks_exact_mut(self.logits.columns).enumerate() {
            let row = self.logits.rows(i, i + 1);
            let (log_sum, grad) = (self.log_sums[i], self.grad[i] * row.scale);
            for (dx, &x) in dx.iter_mut().zip(row.x) {
                *dx = (x.mul_add::<FMA>(row.scale, -log_sum)).exp::<FMA>() * grad;
            }
            if let Some(mask) = row.mask {
                for (dx, &keep) in dx.iter_mut().zip(mask) {
                    *dx = if keep == 0 { T::ZERO } else { *dx };
                }
            }
            dx[self.targets[i] as usize] += -grad;
        }
    }
}

/// dxᵢⱼ = gradᵢ·scale·(softmaxᵢⱼ − [j = t]), the softmax recomputed from the log sums of [`forward`].
pub fn backward<T: Float>(logits: Logits<T>, targets: &[u32], log_sums: &[T], grad: &[T], dx: &mut [T]) {
    let rows = rows_per_task(logits.columns);
    dx.par_chunks_mut(rows * logits.columns.max(1)).enumerate().for_each(|(task, dx)| {
        let range = task * rows..(task * rows + rows).min(targets.len());
        let logits = logits.rows(range.start, range.end);
        let (targets, log_sums, grad) = (&targets[range.clone()], &log_sums[range.clone()], &grad[range]);
        simd::dispatch(Backward { logits, targets, log_sums, grad, dx });
    });
}
