//! Rows of length 1, for cosine similarity: y = x / max(‖x‖, eps). 3 FLOPs an element; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_float, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: x `[rows, d]`; output of that shape.
#[derive(Clone, Debug)]
pub struct L2Normalize {
    eps: f64,
    /// Reciprocal of the divisor of every row, kept for backward.
    inverse: Option<Tensor>,
}

impl L2Normalize {
    /// `eps` above 0 is the least divisor: rows shorter than that, zero among them, are divided by it.
    pub fn new(eps: f64) -> Self {
        L2Normalize { eps, inverse: None }
    }
}

impl Op for L2Normalize {
    fn name(&self) -> &'static str {
        "l2_normalize"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let x = inputs[0];
        let (rows, d) = x.dims2("l2_normalize")?;
        if self.eps.is_nan() || self.eps < 1e-30 {
            let problem = format!("l2_normalize with eps {}", self.eps);
            return Err(Error::setting(problem, "give a small positive number such as 1e-12"));
        }
        let mut y = Tensor::scratch(x.device(), x.dtype(), &[rows, d])?;
        let mut inverse = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        match x.device() {
            Device::Cuda(_) => {
                expect_float("l2_normalize", x)?;
                let (x, eps) = (x.cuda(), self.eps as f32);
                cuda::l2_normalize::forward(x, eps, y.cuda_mut()?, inverse.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                expect_float("l2_normalize", x)?;
                let (x, eps) = (x.gpu()?, self.eps as f32);
                webgpu::l2_normalize::forward(x.view(), eps, y.gpu_mut()?, inverse.gpu_mut()?)?;
            }
            Device::Cpu => float_type!("l2_normalize", x, T => {
                let (y, inverse) = (y.host_mut::<T>(), inverse.host_mut::<T>());
                cpu::l2_normalize::forward::<T>(x.host(), self.eps as T, y, inverse);
                Ok(())
            })?,
        }
        self.inverse = record.then_some(inverse);
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let y = saved.output();
        let inverse = self.inverse.as_ref().expect("forward was recorded");
        let mut dx = Tensor::scratch(y.device(), y.dtype(), y.shape())?;
        match y.device() {
            Device::Cuda(_) => {
                let (y, inverse, dy, eps) = (y.cuda(), inverse.cuda(), grad.cuda(), self.eps as f32);
                cuda::l2_normalize::backward(y, inverse, eps, dy, dx.cuda_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::WebGpu(_) => {
                let (y, inverse, dy, eps) = (y.gpu()?, inverse.gpu()?, grad.gpu()?, self.eps as f32);
                webgpu::l2_normalize::backward(y.view(), inverse.view(), eps, dy.view(), dx.gpu_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::Cpu => float_type!("l2_normalize", y, T => {
                let (y, inverse, dy) = (y.host::<T>(), inverse.host::<T>(), grad.host::<T>());
                cpu::l2_normalize::backward(y, inverse, self.eps as T, dy, dx.host_mut());
                Ok(vec![Some(dx)])
            }),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 3 * inputs[0].len() as u64, bytes: 2 * bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        Cost { flops: 5 * grad.len() as u64, bytes: 3 * bytes_of(&[grad]) }
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }

    fn keeps_output(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, d) in [(1, 1), (4, 21), (0, 3), (2, 0)] {
            gradcheck::op(|| L2Normalize::new(1e-8), &[gradcheck::random(&[rows, d], 1)]);
        }
        // Rows shorter than eps: a constant divisor.
        gradcheck::op(|| L2Normalize::new(100.0), &[gradcheck::random(&[3, 5], 1)]);
    }

    #[test]
    fn rows_have_length_one_and_keep_their_direction() {
        let x = gradcheck::random(&[5, 37], 3);
        let y = L2Normalize::new(1e-12).forward(&[&x], false).unwrap().to_f64_vec().unwrap();
        let x = x.to_f64_vec().unwrap();
        for (x, y) in x.chunks(37).zip(y.chunks(37)) {
            let length = x.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!(x.iter().zip(y).all(|(x, y)| (y * length - x).abs() < 1e-14));
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero_and_eps_must_be_positive() {
        let zeros = Tensor::zeros(&Device::Cpu, crate::device::DType::F32, &[1, 3]).unwrap();
        let y = L2Normalize::new(1e-12).forward(&[&zeros], false).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [0.0; 3]);
        assert!(L2Normalize::new(0.0).forward(&[&zeros], false).unwrap_err().to_string().contains("eps 0"));
    }
}
