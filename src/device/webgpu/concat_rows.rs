//! Matrices laid one below the other: copies between buffers, no kernel.

use super::{View, ViewMut};
use crate::Result;

/// y = the parts one after another.
pub fn forward(parts: &[View], y: ViewMut) -> Result<()> {
    let mut at = y.0.offset;
    for part in parts {
        y.gpu().copy(part.buffer, part.offset, y.0.buffer, at, part.len)?;
        at += part.len;
    }
    Ok(())
}
