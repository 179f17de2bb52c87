//! In what the CPU computes with frozen weights.

use crate::device::FrozenType;
use std::sync::OnceLock;

static FORCED: OnceLock<FrozenType> = OnceLock::new();

/// What the whole process uses instead of f32; the first call counts.
pub fn force_frozen_type(frozen: FrozenType) {
    let _ = FORCED.set(frozen);
}

/// What the whole process uses.
pub fn frozen_type() -> FrozenType {
    FORCED.get().copied().unwrap_or(FrozenType::F32)
}
