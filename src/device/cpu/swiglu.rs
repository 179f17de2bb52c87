//! silu(gate)·up, forward and backward. Bound by memory: eˣ is vectorised.

use super::map::Map;
use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// silu(gate)·up at one place.
#[derive(Clone, Copy)]
pub struct SwiGlu;

impl<T: Float> Map<T, 2> for SwiGlu {
    #[inline(always)]
    fn at<const FMA: bool>(self, [gate, up]: [T; 2]) -> T {
        gate * gate.sigmoid::<FMA>() * up
    }
}

struct Backward<'a, T> {
    gate: &'a [T],
    up: &'a [T],
    dy: &'a [T],
    dgate: &'a mut [T],
    dup: &'a mut [T],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let inputs = self.gate.iter().zip(self.up).zip(self.dy);
        for (((&gate, &up), &dy), (dgate, dup)) in inputs.zip(self.dgate.iter_mut().zip(self.dup)) {
            let sigmoid = gate.sigmoid::<FMA>();
            *dup = dy * gate * sigmoid;
            *dgate = dy * up * sigmoid * (T::ONE + gate * (T::ONE - sigmoid));
        }
    }
}

/// dgate = dy·up·σ(g)·(1 + g·(1 − σ(g))) and dup = dy·g·σ(g), in one pass; all of one length.
pub fn backward<T: Float>(gate: &[T], up: &[T], dy: &[T], dgate: &mut [T], dup: &mut [T]) {
    let chunk = rows_per_task(1);
    let inputs = gate.par_chunks(chunk).zip(up.par_chunks(chunk)).zip(dy.par_chunks(chunk));
    let outputs = dgate.par_chunks_mut(chunk).zip(dup.par_chunks_mut(chunk));
    inputs.zip(outputs).for_each(|(((gate, up), dy), (dgate, dup))| {
        simd::dispatch(Backward { gate, up, dy, dgate, dup });
    });
}
