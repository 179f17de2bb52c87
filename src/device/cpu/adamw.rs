//! AdamW update and the squared norm of gradients. Bound by memory: four reads and three writes an element.

use super::simd::{self, Kernel, LANES};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// Constants of one update in the element type.
#[derive(Clone, Copy)]
pub struct Update<T> {
    /// Factor on the gradient before anything else.
    pub grad_scale: T,
    /// Decay of the first moment.
    pub beta1: T,
    /// Decay of the second moment.
    pub beta2: T,
    /// Learning rate over the first moment's bias correction.
    pub rate: T,
    /// 1 / (the second moment's bias correction).
    pub second_scale: T,
    /// Added to the root of the second moment.
    pub eps: T,
    /// 1 − learning rate · weight decay.
    pub keep: T,
}

struct Step<'a, T> {
    update: Update<T>,
    param: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    grad: &'a [T],
}

impl<T: Float> Kernel for Step<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let u = self.update;
        let elements = self.param.iter_mut().zip(self.m).zip(self.v).zip(self.grad);
        for (((p, m), v), &g) in elements {
            let g = g * u.grad_scale;
            *m = u.beta1 * *m + (T::ONE - u.beta1) * g;
            *v = u.beta2 * *v + (T::ONE - u.beta2) * g * g;
            *p = *p * u.keep - u.rate * *m / ((*v * u.second_scale).sqrt() + u.eps);
        }
    }
}

/// One update of `param` and its moments; all of one length.
pub fn step<T: Float>(update: Update<T>, param: &mut [T], m: &mut [T], v: &mut [T], grad: &[T]) {
    let chunk = rows_per_task(1);
    let moments = m.par_chunks_mut(chunk).zip(v.par_chunks_mut(chunk));
    param.par_chunks_mut(chunk).zip(moments).zip(grad.par_chunks(chunk)).for_each(
        |((param, (m, v)), grad)| {
            simd::dispatch(Step { update, param, m, v, grad });
        },
    );
}

struct SquaredNorm<'a, T>(&'a [T]);

impl<T: Float> Kernel for SquaredNorm<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let mut lanes = [0f64; LANES];
        for chunk in self.0.chunks(LANES) {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += x.to_f64() * x.to_f64();
            }
        }
        simd::sum_of(&lanes, |x| x)
    }
}

/// Σ x² in f64, the sums of fixed chunks added in their order.
pub fn squared_norm<T: Float>(x: &[T]) -> f64 {
    let parts: Vec<f64> =
        x.par_chunks(rows_per_task(1)).map(|chunk| simd::dispatch(SquaredNorm(chunk))).collect();
    parts.iter().sum()
}
