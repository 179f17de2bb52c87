//! Cross-entropy of h·Wᵀ + b: the scores of a few rows at a time, which stay in a core's own cache and are never all there.
//! Gradients are made of the scores while they are there: three products. Bound by their arithmetic; sums over rows run in
//! the order of the rows, whatever the threads.

use super::elementwise::add_assign;
use super::matmul::{Factor, Matrix, Terms, Threads, matmul, matmul_prepared};
use super::simd::{self, Kernel};
use super::{Buffer, Float};
#[cfg(target_arch = "x86_64")]
use crate::device::DType;
use rayon::prelude::*;

/// Scores of a task, about: less than a core's own cache holds.
const SCORES: usize = 1 << 17;
/// Tasks of a block of rows, whose scores are kept for the gradient of the weight: few, so that they are still near then.
const TASKS: usize = 16;

/// A linear head over some rows, and the columns that they should score highest.
#[derive(Clone, Copy)]
pub struct Head<'a, T> {
    /// `[rows, d]`.
    pub h: &'a [T],
    /// `[columns, d]`.
    pub weight: &'a [T],
    /// `[columns]`.
    pub bias: &'a [T],
    /// `[rows]`.
    pub targets: &'a [u32],
}

/// Where gradients go, each of its factor's shape.
pub struct Gradients<'a, T> {
    /// Of h.
    pub h: &'a mut [T],
    /// Of the weight.
    pub weight: &'a mut [T],
    /// Of the bias.
    pub bias: &'a mut [T],
}

impl<'a, T: Float> Head<'a, T> {
    fn columns(&self) -> usize {
        self.bias.len()
    }

    /// Width of h.
    fn d(&self) -> usize {
        self.weight.len() / self.columns().max(1)
    }

    /// Rows of a task: as many as products take at a time, or a multiple.
    fn together(&self) -> usize {
        (SCORES / self.columns().max(1)).clamp(12, 240) / 12 * 12
    }

    /// Wᵀ for products with it.
    fn transposed_weight(&self) -> Factor<'a, T> {
        Factor::new(Matrix::transposed(self.weight, self.d(), self.columns()))
    }

    /// h of `rows` rows from `first` on.
    fn rows(&self, first: usize, rows: usize) -> Matrix<'a, T> {
        let d = self.d();
        Matrix::new(&self.h[first * d..(first + rows) * d], rows, d)
    }

    /// Writes the scores of some rows.
    fn score(&self, h: Matrix<T>, weight: &Factor<T>, scores: &mut [T]) {
        matmul_prepared(h, weight, scores, Terms { bias: Some(self.bias), ..Terms::default() }, Threads::Own);
    }
}

/// Rows of scores, which are used up.
struct Losses<'a, T> {
    scores: &'a mut [T],
    targets: &'a [u32],
    losses: &'a mut [T],
}

impl<T: Float> Kernel for Losses<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let columns = self.scores.len() / self.targets.len().max(1);
        let rows = self.scores.chunks_exact_mut(columns.max(1)).zip(self.targets);
        for (loss, (scores, &target)) in self.losses.iter_mut().zip(rows) {
            let (own, (top, sum)) = (scores[target as usize], powers::<T, FMA>(scores));
            *loss = top + sum.ln() - own;
        }
    }
}

/// lossᵢ = log Σⱼ exp(scoreᵢⱼ) − scoreᵢₜ with t the target of row i; `losses: [rows]`.
pub fn forward<T: Float>(head: Head<T>, losses: &mut [T]) {
    let (together, columns, weight) = (head.together(), head.columns(), head.transposed_weight());
    let tasks = losses.par_chunks_mut(together).zip(head.targets.par_chunks(together));
    let room = || Buffer::scratch(T::DTYPE, together * columns);
    tasks.enumerate().for_each_init(room, |scores, (task, (losses, targets))| {
        let scores = &mut scores.as_mut_slice()[..targets.len() * columns];
        head.score(head.rows(task * together, targets.len()), &weight, scores);
        simd::dispatch(Losses { scores, targets, losses });
    });
}

/// Rows of scores, whose gradients take their place.
struct ScoreGradients<'a, T> {
    scores: &'a mut [T],
    targets: &'a [u32],
    grad: &'a [T],
    losses: &'a mut [T],
    /// Sums over the rows, `[columns]`.
    sums: &'a mut [T],
}

impl<T: Float> Kernel for ScoreGradients<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.scores.chunks_exact_mut(self.sums.len().max(1)).zip(self.targets).zip(self.grad);
        self.sums.fill(T::ZERO);
        for (loss, ((scores, &target), &grad)) in self.losses.iter_mut().zip(rows) {
            let (own, (top, sum)) = (scores[target as usize], powers::<T, FMA>(scores));
            *loss = top + sum.ln() - own;
            let factor = grad / sum;
            for (x, sum) in scores.iter_mut().zip(self.sums.iter_mut()) {
                *x = *x * factor;
                *sum += *x;
            }
            scores[target as usize] += -grad;
            self.sums[target as usize] += -grad;
        }
    }
}

/// Puts e to the power of x less the largest of all in the place of x; that one, and the sum of the powers.
#[inline(always)]
fn powers<T: Float, const FMA: bool>(x: &mut [T]) -> (T, T) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && simd::level() == simd::Level::Avx512 {
        // SAFETY: the features were just found.
        let found = unsafe { super::avx512::powers(bytemuck::cast_slice_mut(x)) };
        return (T::of(f64::from(found.0)), T::of(f64::from(found.1)));
    }
    let top = simd::max(x);
    x.iter_mut().for_each(|x| *x = (*x - top).exp::<FMA>());
    (top, simd::sum_of(x, |x| x))
}

/// What [`forward`] gives, and gradients, all written in full: `grad: [rows]` is that of the losses.
pub fn with_gradients<T: Float>(head: Head<T>, grad: &[T], losses: &mut [T], gradients: Gradients<T>) {
    let (together, columns, d) = (head.together(), head.columns(), head.d());
    let tasks = TASKS.min(grad.len().div_ceil(together));
    let mut scores = Buffer::scratch(T::DTYPE, (tasks * together).min(grad.len()) * columns);
    let mut sums = vec![T::ZERO; tasks * columns];
    let (weight_t, weight) = (head.transposed_weight(), Factor::new(Matrix::new(head.weight, columns, d)));
    let mut dweight_t = Buffer::zeros(T::DTYPE, d * columns);
    let dweight_t = dweight_t.as_mut_slice::<T>();
    gradients.bias.fill(T::ZERO);
    let block = (tasks * together).max(1);
    let outputs = losses.chunks_mut(block).zip(gradients.h.chunks_mut((block * d).max(1)));
    for (number, (losses, dh)) in outputs.enumerate() {
        let (first, rows) = (number * block, losses.len());
        let (targets, grad) = (&head.targets[first..first + rows], &grad[first..first + rows]);
        let scores = &mut scores.as_mut_slice::<T>()[..rows * columns];
        let results = losses.par_chunks_mut(together).zip(dh.par_chunks_mut(together * d));
        let inputs = targets.par_chunks(together).zip(grad.par_chunks(together));
        let kept = scores.par_chunks_mut(together * columns).zip(sums.par_chunks_mut(columns));
        results.zip(inputs).zip(kept).enumerate().for_each(
            |(task, (((losses, dh), (targets, grad)), (scores, sums)))| {
                head.score(head.rows(first + task * together, targets.len()), &weight_t, scores);
                simd::dispatch(ScoreGradients { scores: &mut *scores, targets, grad, losses, sums });
                let scores = Matrix::new(&*scores, targets.len(), columns);
                matmul_prepared(scores, &weight, dh, Terms::default(), Threads::Own);
            },
        );
        let h_t = Matrix::transposed(head.rows(first, rows).data, d, rows);
        matmul(h_t, Matrix::new(&*scores, rows, columns), dweight_t, number > 0);
        for sums in sums.chunks_exact(columns.max(1)).take(rows.div_ceil(together)) {
            add_assign(gradients.bias, sums);
        }
    }
    transpose(dweight_t, columns, gradients.weight);
}

/// `to: [columns, d]` of `from: [d, columns]`.
fn transpose<T: Float>(from: &[T], columns: usize, to: &mut [T]) {
    let d = to.len() / columns.max(1);
    to.par_chunks_mut((16 * d).max(1)).enumerate().for_each(|(group, to)| {
        for (i, row) in from.chunks_exact(columns).enumerate() {
            for (j, to) in to.chunks_exact_mut(d).enumerate() {
                to[i] = row[16 * group + j];
            }
        }
    });
}
