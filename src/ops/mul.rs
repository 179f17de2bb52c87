//! a·b, element by element. One FLOP an element; bytes of a, b and the product.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;

/// Inputs: a and b of one shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mul;

/// Product of two tensors of one shape, without autograd.
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let _range = profile::op(a.device(), "mul", || cost(a));
    forward(a, b)
}

fn forward(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_alike("mul", &[a, b])?;
    expect_shape("mul", "the second factor", b, a.shape())?;
    let mut y = Tensor::scratch(a.device(), a.dtype(), a.shape())?;
    match a.device() {
        Device::Cuda(_) => {
            expect_float("mul", a)?;
            cuda::mul::forward(a.cuda(), b.cuda(), y.cuda_mut()?)?;
            Ok(y)
        }
        Device::WebGpu(_) => {
            expect_float("mul", a)?;
            webgpu::mul::forward(a.gpu()?.view(), b.gpu()?.view(), y.gpu_mut()?)?;
            Ok(y)
        }
        Device::Cpu => float_type!("mul", a, T => {
            let (a, b) = (a.host::<T>(), b.host::<T>());
            cpu::map::map(cpu::elementwise::Product, [a, b], y.host_mut());
            Ok(y)
        }),
    }
}

/// Of a factor and another like it, both read, and their product, written.
fn cost(factor: &Tensor) -> Cost {
    Cost { flops: factor.len() as u64, bytes: 3 * bytes_of(&[factor]) }
}

impl Op for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        forward(inputs[0], inputs[1])
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let of = |i: usize| if saved.needs[i] { mul(grad, saved.input(1 - i)).map(Some) } else { Ok(None) };
        Ok(vec![of(0)?, of(1)?])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        cost(inputs[0])
    }

    fn keeps_input(&self, index: usize, needs: &[bool]) -> bool {
        needs[1 - index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for shape in [[1, 1], [3, 17], [0, 4]] {
            gradcheck::op(|| Mul, &[gradcheck::random(&shape, 1), gradcheck::random(&shape, 2)]);
        }
    }

    #[test]
    fn values_are_products() {
        let (a, b) = (gradcheck::random(&[37], 1), gradcheck::random(&[37], 2));
        let y = mul(&a, &b).unwrap().to_f64_vec().unwrap();
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        assert!(a.iter().zip(&b).zip(&y).all(|((a, b), y)| a * b == *y));
    }

    #[test]
    fn shapes_must_agree() {
        let error = mul(&gradcheck::random(&[2, 3], 1), &gradcheck::random(&[3, 2], 2)).unwrap_err();
        assert!(error.to_string().contains("second factor has shape [3, 2]"), "{error}");
    }
}
