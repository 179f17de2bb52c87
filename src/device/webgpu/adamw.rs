//! AdamW updates, see `shaders/adamw.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("adamw", include_str!("../../../shaders/adamw.wgsl")).with(&[Part::Each]).defining(&[LANES]);

/// Constants of one update.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Factor on the gradient before anything else.
    pub grad_scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// 1 − beta1, rounded once.
    pub beta1_rest: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// 1 − beta2, rounded once.
    pub beta2_rest: f32,
    /// Learning rate over the first moment's bias correction.
    pub rate: f32,
    /// 1 / (the second moment's bias correction).
    pub second_scale: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// 1 − learning rate · weight decay.
    pub keep: f32,
}

/// One update of `param` and its moments `[m, v]`; all of one length.
pub fn step(u: Update, param: ViewMut, [m, v]: [ViewMut; 2], grad: View) -> Result<()> {
    let params =
        [u.grad_scale, u.beta1, u.beta1_rest, u.beta2, u.beta2_rest, u.rate, u.second_scale, u.eps, u.keep];
    let each = Each {
        params: &params.map(f32::to_bits),
        reads: &[grad],
        writes: &[param, m, v],
        work: 14,
        ..Each::of(&SHADER, "step")
    };
    each.launch()
}
