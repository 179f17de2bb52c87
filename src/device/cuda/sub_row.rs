//! A row taken from every row, see `kernels/sub_row.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// y = x − row; `x, y: [rows, d]`, `row: [d]`.
pub fn forward(x: View, row: View, y: ViewMut) -> Result<()> {
    let args = [row.len().into(), row.into(), x.into(), (&y).into()];
    each(x.cuda(), "sub_row", "lea_sub_row_forward", y.len(), &args)
}
