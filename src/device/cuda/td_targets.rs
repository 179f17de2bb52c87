//! Targets of temporal differences, see `kernels/td_targets.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// target = reward + discount·values\[source\], the reward alone where the source is no place among the values.
pub fn forward(rewards: View, sources: View, values: View, discount: f32, targets: ViewMut) -> Result<()> {
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let args =
        [count.into(), discount.into(), rewards.into(), sources.into(), values.into(), (&targets).into()];
    each(targets.cuda(), "td_targets", "lea_td_targets", targets.len(), &args)
}
