//! Sums of tensors of one shape, see `kernels/add.cu`.

use super::each::each_four;
use super::{View, ViewMut};
use crate::Result;

/// a += b.
pub fn assign(a: ViewMut, b: View) -> Result<()> {
    each_four(b.cuda(), "add", "lea_add_assign", a.len(), &[b.into(), (&a).into()])
}

/// y = a + b.
pub fn forward(a: View, b: View, y: ViewMut) -> Result<()> {
    each_four(a.cuda(), "add", "lea_add_forward", y.len(), &[a.into(), b.into(), (&y).into()])
}
