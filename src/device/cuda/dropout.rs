//! Dropout, see `kernels/dropout.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;
use crate::device::dropout::Mask;

/// yᵢ = 0 where the mask drops i, else scale·xᵢ.
pub fn forward(x: View, mask: Mask, scale: f32, y: ViewMut) -> Result<()> {
    let (seed, counter) = (mask.seed as usize, mask.counter as usize);
    let args = [scale.into(), mask.threshold.into(), seed.into(), counter.into(), x.into(), (&y).into()];
    each(x.cuda(), "dropout", "lea_dropout_forward", y.len(), &args)
}
