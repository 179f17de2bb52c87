//! Rows of matrices one after another: copies, no kernel.

use super::{View, ViewMut};
use crate::Result;

/// y = the parts, one after another.
pub fn forward(parts: &[View], y: ViewMut) -> Result<()> {
    let mut start = 0;
    for &part in parts {
        y.part(start, part.len()).copy_from(part)?;
        start += part.len();
    }
    Ok(())
}
