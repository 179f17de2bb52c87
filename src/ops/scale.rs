//! y = c·x for a constant c. One FLOP an element; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_float, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;

/// Input of any shape; the factor.
#[derive(Clone, Copy, Debug)]
pub struct Scale(pub f64);

/// `factor` times x, without autograd.
pub fn scale(x: &Tensor, factor: f64) -> Result<Tensor> {
    let _range = profile::op(x.device(), "scale", || cost(x));
    scaled(x, factor)
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    let mut y = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
    match x.device() {
        Device::Cuda(_) => {
            expect_float("scale", x)?;
            cuda::scale::forward(x.cuda(), factor as f32, y.cuda_mut()?)?;
            Ok(y)
        }
        Device::WebGpu(_) => {
            expect_float("scale", x)?;
            webgpu::scale::forward(x.gpu()?.view(), factor as f32, y.gpu_mut()?)?;
            Ok(y)
        }
        Device::Cpu => float_type!("scale", x, T => {
            use cpu::Float;
            cpu::map::map::<T, 1>(cpu::scale::Scale(T::of(factor)), [x.host()], y.host_mut());
            Ok(y)
        }),
    }
}

fn cost(x: &Tensor) -> Cost {
    Cost { flops: x.len() as u64, bytes: 2 * bytes_of(&[x]) }
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        scaled(inputs[0], self.0)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(scaled(grad, self.0)?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        cost(inputs[0])
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        cost(grad)
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn every_element_is_multiplied() {
        let x = gradcheck::random(&[300, 77], 1);
        let y = Scale(-2.5).forward(&[&x], false).unwrap();
        assert_eq!(y.shape(), [300, 77]);
        let pairs = x.to_f64_vec().unwrap().into_iter().zip(y.to_f64_vec().unwrap());
        assert!(pairs.into_iter().all(|(x, y)| y == -2.5 * x));
    }

    #[test]
    fn gradients_match_finite_differences() {
        for shape in [&[3, 5][..], &[1], &[2, 3, 2]] {
            gradcheck::op(|| Scale(0.3), &[gradcheck::random(shape, 2)]);
        }
    }

    #[test]
    fn ids_cannot_be_scaled() {
        let ids = Tensor::from_ids(&Device::Cpu, &[1, 2]).unwrap();
        assert!(Scale(2.0).forward(&[&ids], false).unwrap_err().to_string().contains("scale has no kernel"));
    }
}
