//! How targets stand among scores, see `kernels/standing.cu`.

use super::each::each_row;
use super::{View, ViewMut};
use crate::Result;

/// `standings: [rows, 2]`: columns that score higher than the row's target, and others that score the same; `scores: [rows,
/// columns]`, `targets: [rows]`, all below `columns`.
pub fn count(scores: View, columns: usize, targets: View, standings: ViewMut) -> Result<()> {
    let args = [scores.into(), targets.into(), (&standings).into()];
    each_row(scores.cuda(), "standing", "lea_standing", targets.len(), columns, &args)
}
