//! Rotary position embedding, see `kernels/rope.cu`.

use super::each::each_four;
use super::{View, ViewMut};
use crate::Result;
use crate::device::DType;

/// Cosines and sines, `[positions, half]` each, that a row's position picks.
#[derive(Clone, Copy, Debug)]
pub struct Angles<'a> {
    /// Cosines.
    pub cos: View<'a>,
    /// Sines.
    pub sin: View<'a>,
    /// head_dim / 2.
    pub half: usize,
    /// Rotate by −angle.
    pub back: bool,
}

/// Rotates the pairs (i, i + half) of every head of `x: [rows, heads · 2 · half]`; `positions: [rows]`, each below the
/// rows of the angles. `y` of the same shape, in f32 or bf16.
pub fn rotate(x: View, positions: View, angles: Angles, y: ViewMut) -> Result<()> {
    if x.is_empty() {
        return Ok(());
    }
    let heads = x.len() / positions.len() / (2 * angles.half);
    let sign: f32 = if angles.back { -1.0 } else { 1.0 };
    let (cos, sin) = (angles.cos.into(), angles.sin.into());
    let args =
        [heads.into(), angles.half.into(), sign.into(), x.into(), positions.into(), cos, sin, (&y).into()];
    let kernel = match y.dtype() {
        DType::BF16 => "lea_rope_rotate_bf16",
        _ => "lea_rope_rotate",
    };
    each_four(x.cuda(), "rope", kernel, x.len() / 2, &args)
}
