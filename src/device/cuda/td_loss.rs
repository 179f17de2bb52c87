//! Squared temporal-difference errors, see `kernels/td_loss.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// loss = ½(target − q)².
pub fn forward(q: View, targets: View, losses: ViewMut) -> Result<()> {
    let args = [q.into(), targets.into(), (&losses).into()];
    each(q.cuda(), "td_loss", "lea_td_loss_forward", losses.len(), &args)
}

/// dq = grad·(q − target).
pub fn backward(q: View, targets: View, grad: View, dq: ViewMut) -> Result<()> {
    let args = [q.into(), targets.into(), grad.into(), (&dq).into()];
    each(q.cuda(), "td_loss", "lea_td_loss_backward", dq.len(), &args)
}
