//! Products, see `kernels/mul.cu`.

use super::each::each_four;
use super::{View, ViewMut};
use crate::Result;

/// y = a·b, element by element.
pub fn forward(a: View, b: View, y: ViewMut) -> Result<()> {
    each_four(a.cuda(), "mul", "lea_mul_forward", y.len(), &[a.into(), b.into(), (&y).into()])
}
