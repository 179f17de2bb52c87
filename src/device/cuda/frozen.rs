//! In what a CUDA device stores frozen weights.

use crate::device::FrozenType;
use std::sync::OnceLock;

static FORCED: OnceLock<FrozenType> = OnceLock::new();

/// What the whole process uses instead of bf16; the first call counts.
pub fn force_frozen_type(frozen: FrozenType) {
    let _ = FORCED.set(frozen);
}

/// What the whole process uses.
pub(super) fn forced_frozen_type() -> FrozenType {
    FORCED.get().copied().unwrap_or(FrozenType::Bf16)
}
