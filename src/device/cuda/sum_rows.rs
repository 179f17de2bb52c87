//! Sum of the rows of a matrix, see `kernels/sum_rows.cu`.

use super::column_sums::column_sums;
use super::{View, ViewMut};
use crate::Result;

/// y = Σ_rows x; `x: [rows, width]`, `y: [width]`.
pub fn forward(x: View, y: ViewMut) -> Result<()> {
    let rows = x.len() / y.len().max(1);
    column_sums("sum_rows", "lea_sum_rows_forward", &[x.into()], rows, y)
}
