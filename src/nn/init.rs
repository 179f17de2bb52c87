//! Initial values of parameters. Draws come from a caller's generator, so that one seed fixes a whole model.

use crate::Result;
use crate::device::cpu::Float;
use crate::device::{DType, Device};
use crate::tensor::{Tensor, count};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Draws that a task makes one after the other: enough that handing it out costs nothing beside them.
const BLOCK: usize = 1 << 14;
/// Words of the generator's stream that one draw of an f64 takes.
const WORDS: u128 = 2;

/// `len` numbers, each from one draw in [0, 1), or pairs of them from two: `make` turns a pair of draws into a pair of numbers.
/// All threads share the work; the numbers are those that one thread would draw, since the generator's stream can be entered
/// anywhere.
fn draw<T: Float>(rng: &mut ChaCha8Rng, len: usize, make: impl Fn(f64, f64) -> [f64; 2] + Sync) -> Vec<T> {
    let (start, pairs) = (rng.get_word_pos(), len.div_ceil(2));
    let mut data = vec![T::ZERO; 2 * pairs];
    data.par_chunks_mut(2 * BLOCK).enumerate().for_each(|(i, numbers)| {
        let mut rng = rng.clone();
        rng.set_word_pos(start + (i * 2 * BLOCK) as u128 * WORDS);
        for pair in numbers.chunks_exact_mut(2) {
            let (u, v) = (rng.random::<f64>(), rng.random::<f64>());
            pair.copy_from_slice(&make(u, v).map(T::of));
        }
    });
    rng.set_word_pos(start + data.len() as u128 * WORDS);
    data.truncate(len);
    data
}

/// Uniform in ±`bound`.
pub fn uniform(
    rng: &mut ChaCha8Rng,
    bound: f64,
    shape: &[usize],
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let len = count("uniform", shape, DType::F64)?;
    let place = |u: f64| bound * (2.0 * u - 1.0);
    let start = rng.get_word_pos();
    let data: Vec<f64> = draw(rng, len, |u, v| [place(u), place(v)]);
    rng.set_word_pos(start + len as u128 * WORDS);
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
    match dtype {
        DType::F32 => Tensor::from_slice(device, &normals(rng, deviation, len), shape),
        _ => Tensor::from_f64(device, dtype, &draw(rng, len, box_muller(deviation)), shape),
    }
}

/// The same `len` numbers.
pub fn normals(rng: &mut ChaCha8Rng, deviation: f64, len: usize) -> Vec<f32> {
    draw(rng, len, box_muller(deviation))
}

/// Two normal numbers from two uniform ones.
fn box_muller(deviation: f64) -> impl Fn(f64, f64) -> [f64; 2] + Sync {
    move |u, v| {
        // 1 − u lies in (0, 1]: the logarithm is finite.
        let radius = deviation * (-2.0 * (1.0 - u).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * v).sin_cos();
        [radius * cosine, radius * sine]
    }
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
    fn draws_are_those_of_one_thread_and_leave_the_generator_where_it_would() {
        for len in [0, 1, 2, 3, 2 * BLOCK - 1, 2 * BLOCK + 1, 5 * BLOCK + 7] {
            let (mut all, mut one) = (ChaCha8Rng::seed_from_u64(3), ChaCha8Rng::seed_from_u64(3));
            let _: (u32, u32) = (all.random(), one.random());
            let found = uniform(&mut all, 0.5, &[len], &Device::Cpu, DType::F64).unwrap();
            let want: Vec<f64> = (0..len).map(|_| 0.5 * (2.0 * one.random::<f64>() - 1.0)).collect();
            assert_eq!(found.to_f64_vec().unwrap(), want);
            let found = normal(&mut all, 0.5, &[len], &Device::Cpu, DType::F64).unwrap();
            let mut want = Vec::new();
            while want.len() < len {
                let radius = 0.5 * (-2.0 * (1.0 - one.random::<f64>()).ln()).sqrt();
                let angle = std::f64::consts::TAU * one.random::<f64>();
                want.extend([radius * angle.cos(), radius * angle.sin()]);
            }
            assert_eq!(found.to_f64_vec().unwrap(), want[..len]);
            assert_eq!(all.random::<u64>(), one.random::<u64>(), "after {len} draws");
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
