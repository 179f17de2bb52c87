//! Rotary position embedding, see `shaders/rope.wgsl`.

use super::shader::{LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("rope", include_str!("../../../shaders/rope.wgsl")).defining(&[LANES]);

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
/// rows of the angles.
pub fn rotate(x: View, positions: View, angles: Angles, y: ViewMut) -> Result<()> {
    let rows = positions.len();
    if x.is_empty() {
        return Ok(());
    }
    let width = x.len() / rows;
    let part = x.gpu().rows_per_part(rows, width)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        let heads = width / (2 * angles.half);
        let sign: f32 = if angles.back { -1.0 } else { 1.0 };
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "rotate",
            defines: &[],
            params: &[rows as u32, heads as u32, angles.half as u32, sign.to_bits()],
            reads: &[
                x.part(first * width, rows * width),
                positions.part(first, rows),
                angles.cos,
                angles.sin,
            ],
            writes: &[y.part(first * width, rows * width)],
            groups: grid((rows * width / 2).div_ceil(LANES.1 as usize)),
            work: 3 * (rows * width) as u64,
        })?;
    }
    Ok(())
}
