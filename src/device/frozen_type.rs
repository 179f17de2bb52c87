//! In what a device stores frozen weights.

use super::DType;
use crate::{Error, Result};
use std::str::FromStr;

/// How a decoder's frozen projections are stored and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenType {
    /// In bf16: inputs are rounded to bf16 too, sums are f32.
    Bf16,
    /// In f32, both.
    F32,
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
