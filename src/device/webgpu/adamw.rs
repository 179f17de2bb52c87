//! AdamW updates, see `shaders/adamw.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;
use crate::device::adamw::Update;

pub(super) static SHADER: Shader =
    Shader::new("adamw", include_str!("../../../shaders/adamw.wgsl")).with(&[Part::Each]).defining(&[LANES]);

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
