//! AdamW updates, see `kernels/adamw.cu`.

use super::each::each;
use super::{Arg, View, ViewMut};
use crate::Result;
use crate::device::adamw::Update;

/// One update of `param` and its moments `[m, v]` from `grad` times the factor, which the first element of the view multiplies
/// where there is one: a negative one means no update. All of one length.
pub fn step(
    u: Update,
    param: ViewMut,
    [m, v]: [ViewMut; 2],
    grad: View,
    (factor, scale): (f32, Option<View>),
) -> Result<()> {
    let constants =
        [factor, u.beta1, u.beta1_rest, u.beta2, u.beta2_rest, u.rate, u.second_scale, u.eps, u.keep];
    let scale = scale.map_or(Arg::Long(0), Arg::from);
    let tensors = [scale, grad.into(), (&param).into(), (&m).into(), (&v).into()];
    let args: Vec<_> = constants.map(Into::into).into_iter().chain(tensors).collect();
    each(grad.cuda(), "adamw", "lea_adamw_step", param.len(), &args)
}
