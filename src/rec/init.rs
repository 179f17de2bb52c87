//! Where a recommender's parameters get their values from: random numbers, or a file.

use crate::Result;
use crate::autograd::Param;
use crate::device::{DType, Device};
use crate::nn::init;
use crate::tensor::Tensor;
use crate::tensor::file::TensorFile;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Makes parameters one after another.
pub struct Init<'a> {
    source: Source<'a>,
    device: Device,
    dtype: DType,
}

enum Source<'a> {
    Random(Box<ChaCha8Rng>),
    File(&'a TensorFile),
}

impl<'a> Init<'a> {
    /// New parameters of type `dtype` on `device`, from `seed`.
    pub fn random((device, dtype): (&Device, DType), seed: u64) -> Self {
        let source = Source::Random(Box::new(ChaCha8Rng::seed_from_u64(seed)));
        Init { source, device: device.clone(), dtype }
    }

    /// The parameters that `file` holds under the same names. One that is missing or has another shape is an error
    /// before anything of its size is allocated.
    pub fn stored((device, dtype): (&Device, DType), file: &'a TensorFile) -> Self {
        Init { source: Source::File(file), device: device.clone(), dtype }
    }

    /// Normal with mean 0.
    pub fn normal(&mut self, name: &str, shape: &[usize], deviation: f64) -> Result<Param> {
        self.param(name, shape, |rng, device, dtype| init::normal(rng, deviation, shape, device, dtype))
    }

    /// Uniform in ±1/√`inputs`, as linear and recurrent layers usually start.
    pub fn uniform(&mut self, name: &str, shape: &[usize], inputs: usize) -> Result<Param> {
        let bound = 1.0 / (inputs as f64).sqrt();
        self.param(name, shape, |rng, device, dtype| init::uniform(rng, bound, shape, device, dtype))
    }

    /// Every element `value`.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: f64) -> Result<Param> {
        self.param(name, shape, |_, device, dtype| Tensor::full(device, dtype, shape, value))
    }

    fn param(
        &mut self,
        name: &str,
        shape: &[usize],
        draw: impl FnOnce(&mut ChaCha8Rng, &Device, DType) -> Result<Tensor>,
    ) -> Result<Param> {
        let value = match &mut self.source {
            Source::File(file) => file.read(name, shape, &self.device, self.dtype)?,
            Source::Random(rng) => draw(rng, &self.device, self.dtype)?,
        };
        Ok(Param::trainable(name, value))
    }
}
