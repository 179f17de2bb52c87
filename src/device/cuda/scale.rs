//! Multiples, see `kernels/scale.cu`.

use super::each::each_four;
use super::{View, ViewMut};
use crate::Result;

/// y = factor · x.
pub fn forward(x: View, factor: f32, y: ViewMut) -> Result<()> {
    each_four(x.cuda(), "scale", "lea_scale_forward", y.len(), &[factor.into(), x.into(), (&y).into()])
}
