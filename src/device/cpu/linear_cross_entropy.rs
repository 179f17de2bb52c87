//! Cross-entropy of h·Wᵀ + b, a block of rows at a time: the scores of a block stay in the cache and are never all there.
//! Backward makes them again, which costs less than writing and reading them would. Bound by the arithmetic of the
//! products; sums over rows run in the order of the blocks, whatever the threads.

use super::cross_entropy::{self, Logits};
use super::elementwise::{add_assign, sum_rows};
use super::matmul::{Matrix, Terms, matmul, matmul_with};
use super::{Buffer, Float};

/// Scores of a block, at most, unless a single row has more: with their gradients 16 MiB of f32. Smaller blocks would lie in
/// nearer caches, but add to the weight's gradient more often, which costs more.
const SCORES: usize = 1 << 21;

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

/// Where gradients go, as far as they are wanted, each of its factor's shape.
pub struct Gradients<'a, T> {
    /// Of h.
    pub h: Option<&'a mut [T]>,
    /// Of the weight.
    pub weight: Option<&'a mut [T]>,
    /// Of the bias.
    pub bias: Option<&'a mut [T]>,
}

impl<'a, T: Float> Head<'a, T> {
    fn columns(&self) -> usize {
        self.bias.len()
    }

    /// Width of h.
    fn d(&self) -> usize {
        self.weight.len() / self.columns().max(1)
    }

    /// Rows of a block.
    fn together(&self) -> usize {
        (SCORES / self.columns().max(1)).clamp(1, self.targets.len().max(1))
    }

    /// h of the block of rows from `first` on.
    fn block(&self, first: usize) -> Matrix<'a, T> {
        let (d, rows) = (self.d(), self.together().min(self.targets.len() - first));
        Matrix::new(&self.h[first * d..(first + rows) * d], rows, d)
    }

    /// The scores of a block, written to `scores`.
    fn logits<'b>(&self, block: Matrix<T>, scores: &'b mut [T]) -> Logits<'b, T> {
        let columns = self.columns();
        let terms = Terms { bias: Some(self.bias), ..Terms::default() };
        let scores = &mut scores[..block.rows * columns];
        matmul_with(block, Matrix::transposed(self.weight, self.d(), columns), scores, terms);
        Logits { x: scores, mask: None, scale: T::ONE, columns }
    }
}

/// lossᵢ = log Σⱼ exp(scoreᵢⱼ) − scoreᵢₜ with t the target of row i; `losses, log_sums: [rows]`, the latter for backward.
pub fn forward<T: Float>(head: Head<T>, losses: &mut [T], log_sums: &mut [T]) {
    let together = head.together();
    let mut scores = Buffer::scratch(T::DTYPE, together * head.columns());
    let outputs = losses.chunks_mut(together).zip(log_sums.chunks_mut(together));
    for (number, (losses, log_sums)) in outputs.enumerate() {
        let first = number * together;
        let logits = head.logits(head.block(first), scores.as_mut_slice());
        cross_entropy::forward(logits, &head.targets[first..first + losses.len()], losses, log_sums);
    }
}

/// Gradients, all written in full, of what [`forward`] gave; `grad: [rows]` that of the losses.
pub fn backward<T: Float>(head: Head<T>, log_sums: &[T], grad: &[T], mut gradients: Gradients<T>) {
    let (together, columns, d) = (head.together(), head.columns(), head.d());
    let mut scores = Buffer::scratch(T::DTYPE, together * columns);
    let mut dscores = Buffer::scratch(T::DTYPE, together * columns);
    let mut block_sums = vec![T::ZERO; columns];
    if let Some(dweight) = gradients.weight.as_mut().filter(|_| grad.is_empty()) {
        dweight.fill(T::ZERO);
    }
    if let Some(dbias) = &mut gradients.bias {
        dbias.fill(T::ZERO);
    }
    for (number, grad) in grad.chunks(together).enumerate() {
        let (first, rows) = (number * together, grad.len());
        let range = first..first + rows;
        let block = head.block(first);
        let logits = head.logits(block, scores.as_mut_slice());
        let dscores = &mut dscores.as_mut_slice::<T>()[..rows * columns];
        cross_entropy::backward(logits, &head.targets[range.clone()], &log_sums[range], grad, dscores);
        if let Some(dh) = &mut gradients.h {
            let dh = &mut dh[first * d..(first + rows) * d];
            matmul(Matrix::new(dscores, rows, columns), Matrix::new(head.weight, columns, d), dh, false);
        }
        if let Some(dweight) = &mut gradients.weight {
            let (dscores, h) = (Matrix::transposed(dscores, columns, rows), Matrix::new(block.data, rows, d));
            matmul(dscores, h, dweight, number > 0);
        }
        if let Some(dbias) = &mut gradients.bias {
            sum_rows(dscores, &mut block_sums);
            add_assign(dbias, &block_sums);
        }
    }
}
