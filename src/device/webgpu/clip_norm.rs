//! The factor that clips gradients by their global norm, see `shaders/clip_norm.wgsl`.

use super::shader::{LANES, Part, Shader};
use super::{Launch, View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("clip_norm", include_str!("../../../shaders/clip_norm.wgsl"))
    .with(&[Part::Reduce])
    .defining(&[LANES]);

/// `told: [2]`: the factor (−1 where the norm is no finite number) and the norm; `squares` are those of single tensors.
pub fn clip(squares: View, limit: f32, told: ViewMut) -> Result<()> {
    squares.gpu().launch(&Launch {
        shader: &SHADER,
        entry: "clip",
        defines: &[],
        params: &[squares.len() as u32, limit.min(f32::MAX).to_bits()],
        reads: &[squares],
        writes: &[told],
        groups: [1, 1, 1],
        work: squares.len() as u64,
    })
}
