//! y = f(x…), element by element. Bound by memory as long as f vectorises.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// A function of `N` elements at one place. Mark `at` `#[inline(always)]`, or it is compiled for the portable
/// instruction set only.
pub trait Map<T: Float, const N: usize>: Copy + Send + Sync {
    /// Its value.
    fn at<const FMA: bool>(self, x: [T; N]) -> T;
}

struct Run<'a, T, F, const N: usize> {
    f: F,
    inputs: [&'a [T]; N],
    y: &'a mut [T],
}

impl<T: Float, F: Map<T, N>, const N: usize> Kernel for Run<'_, T, F, N> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let mut inputs = self.inputs;
        for x in &mut inputs {
            // Equal lengths, stated where the compiler sees it: no bounds checks below.
            *x = &x[..self.y.len()];
        }
        for (i, y) in self.y.iter_mut().enumerate() {
            let mut x = [T::ZERO; N];
            for n in 0..N {
                x[n] = inputs[n][i];
            }
            *y = self.f.at::<FMA>(x);
        }
    }
}

/// yᵢ = f(aᵢ, bᵢ, …) with `inputs` as long as `y`.
pub fn map<T: Float, const N: usize>(f: impl Map<T, N>, inputs: [&[T]; N], y: &mut [T]) {
    let chunk = rows_per_task(1);
    y.par_chunks_mut(chunk).enumerate().for_each(|(task, y)| {
        let inputs = inputs.map(|x| &x[task * chunk..][..y.len()]);
        simd::dispatch(Run { f, inputs, y });
    });
}
