//! Dropout, see `shaders/dropout.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;
use crate::device::dropout::Mask;

pub(super) static SHADER: Shader = Shader::new("dropout", include_str!("../../../shaders/dropout.wgsl"))
    .with(&[Part::Each])
    .defining(&[LANES]);

/// Elements that share blocks of the generator.
const GROUP: usize = 64;

/// yᵢ = 0 where the mask drops i, else scale·xᵢ.
pub fn forward(x: View, mask: Mask, scale: f32, y: ViewMut) -> Result<()> {
    let halves = |word: u64| [word as u32, (word >> 32) as u32];
    let ([seed_low, seed_high], [counter_low, counter_high]) = (halves(mask.seed), halves(mask.counter));
    let params = &[scale.to_bits(), mask.threshold, seed_low, seed_high, counter_low, counter_high];
    Each { params, reads: &[x], writes: &[y], row: GROUP, work: 100, ..Each::of(&SHADER, "forward") }.launch()
}
