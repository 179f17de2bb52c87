//! What a case is, and tensors of the streams.

use crate::counter::value;
use lea::device::{DType, Device};
use lea::tensor::Tensor;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the work runs on.
pub struct Home {
    pub device: Device,
    pub dtype: DType,
}

impl Home {
    /// `map` of the elements of the stream `name`.
    pub fn tensor(&self, name: &str, shape: &[usize], map: impl Fn(f64) -> f64) -> Result<Tensor> {
        let data: Vec<f64> = (0..shape.iter().product()).map(|i| map(value(name, i))).collect();
        Ok(Tensor::from_f64(&self.device, self.dtype, &data, shape)?)
    }
}

/// One case, ready to run any number of times.
pub trait Case {
    /// Launches the work once and gives its result.
    fn run(&mut self) -> Result<Tensor>;
    /// What a check compares.
    fn check(&mut self) -> Result<Vec<f64>> {
        Ok(self.run()?.to_f64_vec()?)
    }
}
