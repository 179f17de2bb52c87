//! Frozen weights in the type that their device stores them in.

use super::Tensor;
use crate::device::{DType, Device, Element};
use crate::{Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;

/// Values that a task rounds one after the other.
const LEAST: usize = 1 << 16;

impl Tensor {
    /// Frozen f32 weights of `shape` on `device`, in its type for rows of that length, rounded to nearest. Where a
    /// value is none or none that the type has (f16: 65,520 and more in size), the whole tensor stays f32: nothing becomes
    /// infinite.
    pub fn frozen(device: &Device, values: &[f32], shape: &[usize]) -> Result<Self> {
        let stored = match device.frozen_type_of(shape.last().copied().unwrap_or_default()) {
            DType::F16 => rounded(values, f16::from_f32, f16::is_finite)
                .map(|halves| Self::from_slice(device, &halves, shape)),
            DType::BF16 => rounded(values, bf16::from_f32, bf16::is_finite)
                .map(|halves| Self::from_slice(device, &halves, shape)),
            _ => None,
        };
        stored.unwrap_or_else(|| Self::from_slice(device, values, shape))
    }

    /// The values in f32, where they are stored as f16 or bf16; the tensor itself otherwise.
    pub fn widened(&self) -> Result<Self> {
        match self.dtype {
            DType::F16 => self.widened_from::<f16>(),
            DType::BF16 => self.widened_from::<bf16>(),
            _ => Ok(self.clone()),
        }
    }

    fn widened_from<T: Element + Into<f32>>(&self) -> Result<Self> {
        let values: Vec<f32> = self.to_vec::<T>()?.into_iter().map(T::into).collect();
        Self::from_slice(&self.device, &values, &self.shape)
    }

    /// The f32 values stored as `dtype`: as they are, or f16 or bf16 by the rule of [`Tensor::frozen`].
    pub fn stored_as(&self, dtype: DType) -> Result<Self> {
        match (self.dtype, dtype) {
            (found, wanted) if found == wanted => Ok(self.clone()),
            (DType::F32, DType::F16 | DType::BF16) => {
                Self::frozen(&self.device, &self.to_vec::<f32>()?, &self.shape)
            }
            (found, wanted) => {
                Err(Error::shape("stored_as", format!("a {found} tensor cannot be stored as {wanted}")))
            }
        }
    }
}

/// The values in a type of 16 bits, where all of them are finite there.
fn rounded<T: Copy + Send + Sync>(
    values: &[f32],
    round: fn(f32) -> T,
    is_finite: fn(T) -> bool,
) -> Option<Vec<T>> {
    let halves: Vec<T> = values.par_iter().with_min_len(LEAST).map(|&value| round(value)).collect();
    halves.par_iter().with_min_len(LEAST).all(|&half| is_finite(half)).then_some(halves)
}
