//! AdamW updates, see `kernels/adamw.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;
use crate::device::adamw::Update;

/// One update of `param` and its moments `[m, v]`; all of one length.
pub fn step(u: Update, param: ViewMut, [m, v]: [ViewMut; 2], grad: View) -> Result<()> {
    let constants =
        [u.grad_scale, u.beta1, u.beta1_rest, u.beta2, u.beta2_rest, u.rate, u.second_scale, u.eps, u.keep];
    let tensors = [grad.into(), (&param).into(), (&m).into(), (&v).into()];
    let args: Vec<_> = constants.map(Into::into).into_iter().chain(tensors).collect();
    each(grad.cuda(), "adamw", "lea_adamw_step", param.len(), &args)
}
