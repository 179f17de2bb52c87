//! Dropout (Srivastava et al., JMLR 2014), inverted: y = 0 with probability p, else x/(1 − p). The mask is a
//! function of (seed, counter, place of the element), so it is the same for any number of threads and backward
//! makes it again. About 12 integer operations an element, counted as FLOPs; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_float, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: x of any shape; output of that shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of an element to become 0; 0 ≤ p < 1.
    pub p: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Another value for every call of a run: two calls with one counter drop the same places.
    pub counter: u64,
}

impl Dropout {
    fn mask(&self, x: &Tensor) -> Result<Tensor> {
        if !(0.0..1.0).contains(&self.p) {
            let problem = format!("dropout probability {} is not in [0, 1)", self.p);
            return Err(Error::setting(problem, "set it to 0 to switch dropout off"));
        }
        if self.p == 0.0 {
            return Ok(x.clone());
        }
        let threshold = (self.p * 4_294_967_296.0) as u32;
        let scale = 1.0 / (1.0 - self.p);
        let mut y = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        match x.device() {
            Device::Cuda(_) => {
                expect_float("dropout", x)?;
                let mask = crate::device::dropout::Mask { seed: self.seed, counter: self.counter, threshold };
                cuda::dropout::forward(x.cuda(), mask, scale as f32, y.cuda_mut()?)?;
                Ok(y)
            }
            Device::WebGpu(_) => {
                expect_float("dropout", x)?;
                let mask = crate::device::dropout::Mask { seed: self.seed, counter: self.counter, threshold };
                webgpu::dropout::forward(x.gpu()?.view(), mask, scale as f32, y.gpu_mut()?)?;
                Ok(y)
            }
            Device::Cpu => float_type!("dropout", x, T => {
                let mask = cpu::dropout::Mask { seed: self.seed, counter: self.counter, threshold };
                cpu::dropout::dropout::<T>(x.host(), mask, scale as T, y.host_mut());
                Ok(y)
            }),
        }
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        self.mask(inputs[0])
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.mask(grad)?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 12 * inputs[0].len() as u64, bytes: 2 * bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        self.cost(&[grad])
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn drop(len: usize, p: f64, seed: u64, counter: u64) -> Vec<f32> {
        let x = Tensor::full(&Device::Cpu, crate::device::DType::F32, &[len], 1.0).unwrap();
        Dropout { p, seed, counter }.forward(&[&x], false).unwrap().to_vec().unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (shape, p) in [([1, 1], 0.5), ([5, 33], 0.3), ([3, 4], 0.0), ([0, 4], 0.5)] {
            gradcheck::op(|| Dropout { p, seed: 5, counter: 9 }, &[gradcheck::random(&shape, 1)]);
        }
    }

    #[test]
    fn the_share_of_zeros_is_p_and_the_others_are_scaled() {
        for p in [0.1, 0.5, 0.9] {
            let y = drop(100_003, p, 1, 2);
            let zeros = y.iter().filter(|&&v| v == 0.0).count() as f64 / y.len() as f64;
            assert!((zeros - p).abs() < 0.006, "{zeros} zeros at p {p}");
            assert!(y.iter().all(|&v| v == 0.0 || v == (1.0 / (1.0 - p)) as f32));
        }
    }

    #[test]
    fn masks_of_other_seeds_and_counters_are_independent() {
        let first = drop(50_000, 0.5, 1, 1);
        for other in [drop(50_000, 0.5, 2, 1), drop(50_000, 0.5, 1, 2)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / 50_000.0;
            assert!((same - 0.5).abs() < 0.015, "{same} of the places agree");
        }
    }

    #[test]
    fn masks_do_not_depend_on_the_number_of_threads() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(|| drop(70_001, 0.4, 7, 3));
        assert_eq!(pool(3).install(|| drop(70_001, 0.4, 7, 3)), one);
        assert_eq!(drop(33, 0.4, 7, 3), one[..33]);
    }

    #[test]
    fn a_probability_out_of_range_is_an_error() {
        let x = gradcheck::random(&[2], 1);
        for p in [1.0, -0.1, f64::NAN] {
            let error = Dropout { p, seed: 0, counter: 0 }.forward(&[&x], false).unwrap_err().to_string();
            assert!(error.contains("not in [0, 1)"), "{error}");
        }
    }
}
