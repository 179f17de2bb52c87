//! Frozen weights in the type that their device stores them in.

use super::Tensor;
use crate::device::{DType, Device};
use crate::{Error, Result};
use half::f16;

impl Tensor {
    /// Frozen f32 weights of `shape` on `device`, in its type for them. f16 is rounded to nearest; where a value is none or
    /// none that f16 has (65,520 and more in size), the whole tensor stays f32: nothing becomes infinite.
    pub fn frozen(device: &Device, values: &[f32], shape: &[usize]) -> Result<Self> {
        if device.frozen_type() == DType::F16 {
            let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
            if halves.iter().all(|half| half.is_finite()) {
                return Self::from_slice(device, &halves, shape);
            }
        }
        Self::from_slice(device, values, shape)
    }

    /// The values in f32, where they are stored as f16; the tensor itself otherwise.
    pub fn widened(&self) -> Result<Self> {
        match self.dtype {
            DType::F16 => {
                let values: Vec<f32> = self.to_vec::<f16>()?.into_iter().map(f32::from).collect();
                Self::from_slice(&self.device, &values, &self.shape)
            }
            _ => Ok(self.clone()),
        }
    }

    /// The f32 values stored as `dtype`: as they are, or f16 by the rule of [`Tensor::frozen`].
    pub fn stored_as(&self, dtype: DType) -> Result<Self> {
        match (self.dtype, dtype) {
            (found, wanted) if found == wanted => Ok(self.clone()),
            (DType::F32, DType::F16) => Self::frozen(&self.device, &self.to_vec::<f32>()?, &self.shape),
            (found, wanted) => {
                Err(Error::shape("stored_as", format!("a {found} tensor cannot be stored as {wanted}")))
            }
        }
    }
}
