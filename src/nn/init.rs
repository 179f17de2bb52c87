//! Initial values of parameters. Draws come from a caller's generator, so that one seed fixes a whole model.

use crate::Result;
use crate::device::{DType, Device};
use crate::tensor::{Tensor, count};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Uniform in ±`bound`.
pub fn uniform(
    rng: &mut ChaCha8Rng,
    bound: f64,
    shape: &[usize],
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let len = count("uniform", shape, DType::F64)?;
    let data: Vec<f64> = (0..len).map(|_| bound * (2.0 * rng.random::<f64>() - 1.0)).collect();
    Tensor::from_f64(device, dtype, &data, shape)
}

/// Normal with mean 0 and standard deviation `deviation`, by the Box–Muller transform.
pub fn normal(
    rng: &mut ChaCha8Rng,
    deviation: f64,
    shape: &[usize],
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let len = count("normal", shape, DType::F64)?;
    let mut data = Vec::with_capacity(len + 1);
    while data.len() < len {
        // 1 − u lies in (0, 1]: the logarithm is finite.
        let radius = deviation * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        data.extend([radius * angle.cos(), radius * angle.sin()]);
    }
    Tensor::from_f64(device, dtype, &data[..len], shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn draws_have_the_moments_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws = [
            normal(&mut rng, 0.5, &[200, 201], &Device::Cpu, DType::F32).unwrap(),
            uniform(&mut rng, 0.5 * 3f64.sqrt(), &[200, 201], &Device::Cpu, DType::F64).unwrap(),
        ];
        for draw in draws {
            let x = draw.to_f64_vec().unwrap();
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let deviation = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
            assert!(mean.abs() < 0.01 && (deviation - 0.5).abs() < 0.01, "{mean} {deviation}");
        }
    }

    #[test]
    fn a_shape_beyond_memory_is_an_error() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shape = [1 << 32, 1 << 32];
        assert!(normal(&mut rng, 1.0, &shape, &Device::Cpu, DType::F32).is_err());
        assert!(uniform(&mut rng, 1.0, &shape, &Device::Cpu, DType::F32).is_err());
    }
}
