//! In what a CUDA device stores frozen weights.

use crate::device::DType;
use crate::{Error, Result};
use std::str::FromStr;
use std::sync::OnceLock;

/// How a decoder's frozen projections are stored and multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrozenType {
    /// In bf16, on tensor cores: inputs are rounded to bf16 too, sums are f32.
    #[default]
    Bf16,
    /// In f32, both.
    F32,
}

static FORCED: OnceLock<FrozenType> = OnceLock::new();

/// What the whole process uses instead of bf16; the first call counts.
pub fn force_frozen_type(frozen: FrozenType) {
    let _ = FORCED.set(frozen);
}

/// What the whole process uses.
pub(super) fn forced_frozen_type() -> FrozenType {
    FORCED.get().copied().unwrap_or_default()
}

impl FrozenType {
    /// The type of tensors.
    pub fn dtype(self) -> DType {
        match self {
            FrozenType::Bf16 => DType::BF16,
            FrozenType::F32 => DType::F32,
        }
    }
}

impl FromStr for FrozenType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "bf16" => Ok(FrozenType::Bf16),
            "f32" => Ok(FrozenType::F32),
            _ => Err(Error::setting(format!("unknown type {name:?}"), "name bf16 or f32")),
        }
    }
}
