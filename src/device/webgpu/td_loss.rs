//! Squared temporal-difference errors, see `shaders/td_loss.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("td_loss", include_str!("../../../shaders/td_loss.wgsl"))
    .with(&[Part::Each])
    .defining(&[LANES]);

/// loss = ½(target − q)².
pub fn forward(q: View, targets: View, losses: ViewMut) -> Result<()> {
    Each { reads: &[q, targets], writes: &[losses], work: 3, ..Each::of(&SHADER, "forward") }.launch()
}

/// dq = grad·(q − target).
pub fn backward(q: View, targets: View, grad: View, dq: ViewMut) -> Result<()> {
    let each = Each { reads: &[q, targets, grad], writes: &[dq], work: 2, ..Each::of(&SHADER, "backward") };
    each.launch()
}
