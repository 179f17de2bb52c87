//! Gradient of the mean over rows, see `kernels/mean_rows.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// dx of the mean over rows: every row becomes `row`; `dx: [rows, d]`, `row: [d]`.
pub fn backward(row: View, dx: ViewMut) -> Result<()> {
    let args = [row.len().into(), row.into(), (&dx).into()];
    each(row.cuda(), "mean_rows", "lea_mean_rows_backward", dx.len(), &args)
}
