//! Gated recurrent unit over packed sequences, forward and backward through time. Each step is one product for all
//! sequences that reach it, then the cells; the products bound it. Working buffers are in the order of visits
//! (see `SequenceLayout`), where what goes on at a step is a prefix of what ran at the step before.

use super::matmul::{Matrix, matmul};
use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// What is kept of a cell for backward: r, z, n and the hidden part of n before r gates it.
pub const KEPT: usize = 4;

/// The recurrence: weights and order of visits.
#[derive(Clone, Copy)]
pub struct Recurrence<'a, T> {
    /// `[3h, h]`, the gates r, z, n below each other.
    pub w: &'a [T],
    /// `[3h]`.
    pub bias: &'a [T],
    /// Hidden width.
    pub h: usize,
    /// Where each step's visits begin, and the number of visits.
    pub steps: &'a [usize],
    /// Row of each visit.
    pub rows: &'a [u32],
}

struct Cells<'a, T> {
    /// `[all rows, 3h]`.
    gates: &'a [T],
    rows: &'a [u32],
    /// `[here, 3h]`: W·previous + bias.
    hidden: &'a [T],
    /// `[here, h]`; empty at the first step, where it is 0.
    previous: &'a [T],
    /// `[here, h]`.
    next: &'a mut [T],
    /// `[here, 4h]`.
    kept: &'a mut [T],
    h: usize,
}

impl<T: Float> Kernel for Cells<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let h = self.h;
        let cells = self.next.chunks_exact_mut(h).zip(self.kept.chunks_exact_mut(KEPT * h)).enumerate();
        for (i, (next, kept)) in cells {
            let row = self.rows[i] as usize * 3 * h;
            let [xr, xz, xn] = thirds(&self.gates[row..row + 3 * h], h);
            let [hr, hz, hn] = thirds(&self.hidden[i * 3 * h..(i + 1) * 3 * h], h);
            let previous = self.previous.get(i * h..(i + 1) * h);
            let (r, rest) = kept.split_at_mut(h);
            let (z, rest) = rest.split_at_mut(h);
            let (n, inner) = rest.split_at_mut(h);
            sigmoid_of_sum::<T, FMA>(xr, hr, r);
            sigmoid_of_sum::<T, FMA>(xz, hz, z);
            candidate::<T, FMA>(xn, hn, r, n);
            inner.copy_from_slice(hn);
            match previous {
                Some(previous) => blend(n, z, previous, next),
                None => next.iter_mut().zip(n).zip(z).for_each(|((next, &mut n), &mut z)| *next = n - z * n),
            }
        }
    }
}

/// y = σ(a + b). Here and below, one output a loop: the compiler can tell that it overlaps no input, and vectorises.
#[inline(always)]
fn sigmoid_of_sum<T: Float, const FMA: bool>(a: &[T], b: &[T], y: &mut [T]) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = (a + b).sigmoid::<FMA>();
    }
}

/// n = tanh(x + r·hidden).
#[inline(always)]
fn candidate<T: Float, const FMA: bool>(x: &[T], hidden: &[T], r: &[T], n: &mut [T]) {
    for (((n, &x), &hidden), &r) in n.iter_mut().zip(x).zip(hidden).zip(r) {
        *n = r.mul_add::<FMA>(hidden, x).tanh::<FMA>();
    }
}

/// next = (1 − z)·n + z·previous.
#[inline(always)]
fn blend<T: Float>(n: &[T], z: &[T], previous: &[T], next: &mut [T]) {
    for (((next, &n), &z), &previous) in next.iter_mut().zip(n).zip(z).zip(previous) {
        *next = n - z * n + z * previous;
    }
}

#[inline(always)]
fn thirds<T>(row: &[T], h: usize) -> [&[T]; 3] {
    [&row[..h], &row[h..2 * h], &row[2 * h..3 * h]]
}

/// `gates: [rows, 3h]` is the input's part (with its bias). Fills `history: [rows, h]` and `kept: [rows, 4h]`, both in
/// the order of visits, and `y: [rows, h]`. `kept` may be as short as the first step's part where no backward follows.
pub fn forward<T: Float>(of: Recurrence<T>, gates: &[T], history: &mut [T], kept: &mut [T], y: &mut [T]) {
    let h = of.h;
    let widest = of.steps.get(1).copied().unwrap_or(0);
    let keep_all = kept.len() == of.rows.len() * KEPT * h;
    let mut hidden = vec![T::ZERO; widest * 3 * h];
    for t in 0..of.steps.len() - 1 {
        let (from, to) = (of.steps[t], of.steps[t + 1]);
        let active = to - from;
        let (past, next) = history.split_at_mut(from * h);
        let previous = if t == 0 { &[][..] } else { &past[of.steps[t - 1] * h..][..active * h] };
        let hidden = &mut hidden[..active * 3 * h];
        hidden.chunks_exact_mut(3 * h).for_each(|row| row.copy_from_slice(of.bias));
        if t > 0 {
            matmul(Matrix::new(previous, active, h), Matrix::transposed(of.w, h, 3 * h), hidden, true);
        }
        let kept_from = if keep_all { from * KEPT * h } else { 0 };
        let kept = &mut kept[kept_from..][..active * KEPT * h];
        let task = rows_per_task(8 * h);
        let parts = next[..active * h].par_chunks_mut(task * h).zip(kept.par_chunks_mut(task * KEPT * h));
        parts.enumerate().for_each(|(i, (next, kept))| {
            let here = i * task..i * task + next.len() / h;
            let rows = &of.rows[from + here.start..from + here.end];
            let hidden = &hidden[here.start * 3 * h..here.end * 3 * h];
            let previous = previous.get(here.start * h..here.end * h).unwrap_or_default();
            simd::dispatch(Cells { gates, rows, hidden, previous, next, kept, h });
        });
    }
    scatter_rows(history, of.rows, h, y);
}

struct CellsBackward<'a, T> {
    kept: &'a [T],
    previous: &'a [T],
    /// `[all rows, h]`.
    dy: &'a [T],
    rows: &'a [u32],
    /// `[here, h]`: in, the gradient from the step after; out, the part that passes by z to the step before.
    carry: &'a mut [T],
    /// `[here, 3h]`: gradient of W·previous + bias.
    dhidden: &'a mut [T],
    /// `[here, h]`: gradient of the input's part of n; that of r and z is the same as in `dhidden`.
    dn: &'a mut [T],
    h: usize,
}

impl<T: Float> Kernel for CellsBackward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let h = self.h;
        let outputs = self.dhidden.chunks_exact_mut(3 * h).zip(self.dn.chunks_exact_mut(h));
        for (i, ((dhidden, dn), carry)) in outputs.zip(self.carry.chunks_exact_mut(h)).enumerate() {
            let [r, z, n] = thirds(&self.kept[i * KEPT * h..][..3 * h], h);
            let inner = &self.kept[i * KEPT * h + 3 * h..][..h];
            let row = self.rows[i] as usize * h;
            let dy = &self.dy[row..row + h];
            let (dr, rest) = dhidden.split_at_mut(h);
            let (dz, dinner) = rest.split_at_mut(h);
            for j in 0..h {
                let dh = dy[j] + carry[j];
                let from_n = dh * (T::ONE - z[j]) * (T::ONE - n[j] * n[j]);
                dn[j] = from_n;
                dinner[j] = from_n * r[j];
                dr[j] = from_n * inner[j] * r[j] * (T::ONE - r[j]);
                dz[j] = -dh * n[j] * z[j] * (T::ONE - z[j]);
                carry[j] = dh * z[j];
            }
            if let Some(previous) = self.previous.get(i * h..(i + 1) * h) {
                for j in 0..h {
                    // carry is dh·z here, and d(z·previous)/dz-before-sigmoid is dh·previous·z·(1 − z).
                    dz[j] += carry[j] * previous[j] * (T::ONE - z[j]);
                }
            }
        }
    }
}

/// What forward left, and the gradient of its output.
#[derive(Clone, Copy)]
pub struct Trace<'a, T> {
    /// `[rows, h]`, in the order of visits.
    pub history: &'a [T],
    /// `[rows, 4h]`, in the order of visits.
    pub kept: &'a [T],
    /// `[rows, h]`.
    pub dy: &'a [T],
}

/// Gradients in the order of visits: `dhidden: [rows, 3h]` of W·previous + bias, and `dn: [rows, h]` of the input's part
/// of n. Those of the input's r and z are the first two thirds of `dhidden`.
pub fn backward<T: Float>(of: Recurrence<T>, trace: Trace<T>, dhidden: &mut [T], dn: &mut [T]) {
    let h = of.h;
    let widest = of.steps.get(1).copied().unwrap_or(0);
    let mut carry = vec![T::ZERO; widest * h];
    for t in (0..of.steps.len() - 1).rev() {
        let (from, to) = (of.steps[t], of.steps[t + 1]);
        let active = to - from;
        let previous = if t == 0 { &[][..] } else { &trace.history[of.steps[t - 1] * h..][..active * h] };
        let kept = &trace.kept[from * KEPT * h..to * KEPT * h];
        let dhidden = &mut dhidden[from * 3 * h..to * 3 * h];
        let dn = &mut dn[from * h..to * h];
        let carry = &mut carry[..active * h];
        let task = rows_per_task(10 * h);
        let outputs = dhidden.par_chunks_mut(task * 3 * h).zip(dn.par_chunks_mut(task * h));
        outputs.zip(carry.par_chunks_mut(task * h)).enumerate().for_each(|(i, ((dhidden, dn), carry))| {
            let here = i * task..i * task + carry.len() / h;
            let rows = &of.rows[from + here.start..from + here.end];
            let kept = &kept[here.start * KEPT * h..here.end * KEPT * h];
            let previous = previous.get(here.start * h..here.end * h).unwrap_or_default();
            simd::dispatch(CellsBackward { kept, previous, dy: trace.dy, rows, carry, dhidden, dn, h });
        });
        if t > 0 {
            matmul(Matrix::new(dhidden, active, 3 * h), Matrix::new(of.w, 3 * h, h), carry, true);
        }
    }
}

/// dW = Σ dhiddenᵀ·previous over all visits but the first step's, whose previous state is 0; `dw: [3h, h]`.
pub fn backward_weight<T: Float>(of: Recurrence<T>, history: &[T], dhidden: &[T], dw: &mut [T]) {
    let h = of.h;
    let first = of.steps.get(1).copied().unwrap_or(0);
    let mut previous = Vec::with_capacity(history.len());
    for t in 1..of.steps.len().max(2) - 1 {
        let active = of.steps[t + 1] - of.steps[t];
        previous.extend_from_slice(&history[of.steps[t - 1] * h..][..active * h]);
    }
    let visits = of.rows.len() - first;
    let dhidden = Matrix::transposed(&dhidden[first * 3 * h..], 3 * h, visits);
    matmul(dhidden, Matrix::new(&previous, visits, h), dw, false);
}

/// Gradient of the input's part, `dgates: [rows, 3h]`, from what [`backward`] gave.
pub fn input_gradient<T: Float>(of: Recurrence<T>, dhidden: &[T], dn: &[T], dgates: &mut [T]) {
    let h = of.h;
    for (visit, &row) in of.rows.iter().enumerate() {
        let (rz, n) = dgates[row as usize * 3 * h..][..3 * h].split_at_mut(2 * h);
        rz.copy_from_slice(&dhidden[visit * 3 * h..][..2 * h]);
        n.copy_from_slice(&dn[visit * h..][..h]);
    }
}

/// y[rows[i]] = x[i], rows of `width`; every row is named once.
fn scatter_rows<T: Float>(x: &[T], rows: &[u32], width: usize, y: &mut [T]) {
    for (x, &row) in x.chunks_exact(width).zip(rows) {
        y[row as usize * width..][..width].copy_from_slice(x);
    }
}
