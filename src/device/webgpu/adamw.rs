//! AdamW updates, see `shaders/adamw.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;
use crate::device::adamw::Update;

pub(super) static SHADER: Shader =
    Shader::new("adamw", include_str!("../../../shaders/adamw.wgsl")).with(&[Part::Each]).defining(&[LANES]);

/// One update of `param` and its moments `[m, v]` from `grad` times the factor, which the first element of the view multiplies
/// where there is one: a negative one means no update. All of one length.
pub fn step(
    u: Update,
    param: ViewMut,
    [m, v]: [ViewMut; 2],
    grad: View,
    (factor, scale): (f32, Option<View>),
) -> Result<()> {
    let params =
        [factor, u.beta1, u.beta1_rest, u.beta2, u.beta2_rest, u.rate, u.second_scale, u.eps, u.keep];
    let words: Vec<u32> = params.map(f32::to_bits).into_iter().chain([scale.is_some().into()]).collect();
    let each = Each {
        params: &words,
        // Something must be bound.
        whole: &[scale.unwrap_or(grad.part(0, grad.len().min(1)))],
        reads: &[grad],
        writes: &[param, m, v],
        work: 14,
        ..Each::of(&SHADER, "step")
    };
    each.launch()
}
