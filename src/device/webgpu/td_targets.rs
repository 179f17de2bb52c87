//! Targets of temporal differences, see `shaders/td_targets.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("td_targets", include_str!("../../../shaders/td_targets.wgsl"))
        .with(&[Part::Each])
        .defining(&[LANES]);

/// target = reward + discount·values\[source\], the reward alone where the source is no place among the values.
pub fn forward(rewards: View, sources: View, values: View, discount: f32, targets: ViewMut) -> Result<()> {
    let each = Each {
        params: &[values.len() as u32, discount.to_bits()],
        whole: &[values],
        reads: &[rewards, sources],
        writes: &[targets],
        work: 2,
        ..Each::of(&SHADER, "target_of")
    };
    each.launch()
}
