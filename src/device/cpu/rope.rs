//! Rotary position embedding on rows of heads. Bound by memory: one read and one write of x.

use super::simd::{self, Kernel};
use super::{Float, Stores, rows_per_task};
use rayon::prelude::*;

/// Cosines and sines, `[positions, head_dim / 2]` each; sines negated for the rotation back.
#[derive(Clone, Copy)]
pub struct Angles<'a, T> {
    /// Cosines.
    pub cos: &'a [T],
    /// Sines.
    pub sin: &'a [T],
    /// head_dim / 2.
    pub half: usize,
    /// Rotate by −angle.
    pub back: bool,
}

struct Rotate<'a, T, O> {
    x: &'a [T],
    positions: &'a [u32],
    angles: Angles<'a, T>,
    y: &'a mut [O],
}

impl<T: Float, O: Stores<T>> Kernel for Rotate<'_, T, O> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let half = self.angles.half;
        let width = self.x.len() / self.positions.len();
        let sign = if self.angles.back { -T::ONE } else { T::ONE };
        let rows = self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width));
        for ((x, y), &position) in rows.zip(self.positions) {
            let cos = &self.angles.cos[position as usize * half..][..half];
            let sin = &self.angles.sin[position as usize * half..][..half];
            for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
                let ((x1, x2), (y1, y2)) = (x.split_at(half), y.split_at_mut(half));
                for i in 0..half {
                    let sin = sign * sin[i];
                    y1[i] = O::stored(x1[i] * cos[i] - x2[i] * sin);
                    y2[i] = O::stored(x2[i] * cos[i] + x1[i] * sin);
                }
            }
        }
    }
}

/// [`rotate`] on this thread alone, for a task of something larger.
pub fn rotate_alone<T: Float, O: Stores<T>>(x: &[T], positions: &[u32], angles: Angles<'_, T>, y: &mut [O]) {
    if !x.is_empty() {
        simd::dispatch(Rotate { x, positions, angles, y });
    }
}

/// Rotates the pairs (i, i + half) of every head of `x: [positions, heads · 2 · half]` by the row's angles.
pub fn rotate<T: Float, O: Stores<T>>(x: &[T], positions: &[u32], angles: Angles<'_, T>, y: &mut [O]) {
    if x.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    let rows = rows_per_task(width);
    let inputs = x.par_chunks(rows * width).zip(positions.par_chunks(rows));
    inputs.zip(y.par_chunks_mut(rows * width)).for_each(|((x, positions), y)| {
        simd::dispatch(Rotate { x, positions, angles, y });
    });
}
