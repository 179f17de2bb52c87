//! Sums: a + b, a += b, the sum over rows. One FLOP an element; bound by memory.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;

/// Sum of two tensors of one shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

/// a += b.
pub fn add_assign(a: &mut Tensor, b: &Tensor) -> Result<()> {
    expect_alike("add", &[a, b])?;
    expect_shape("add", "the second term", b, a.shape())?;
    match b.device() {
        Device::Cuda(_) => {
            expect_float("add", b)?;
            let b = b.cuda();
            cuda::add::assign(a.cuda_mut()?, b)
        }
        Device::WebGpu(_) => {
            expect_float("add", b)?;
            let b = b.gpu()?;
            webgpu::add::assign(a.gpu_mut()?, b.view())
        }
        Device::Cpu => float_type!("add", b, T => {
            cpu::elementwise::add_assign(a.host_mut::<T>(), b.host::<T>());
            Ok(())
        }),
    }
}

/// Sum over the rows of a matrix `[rows, columns] → [columns]`, in an order that depends on the shape alone.
pub fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let (_, columns) = x.dims2("sum_rows")?;
    let mut y = Tensor::scratch(x.device(), x.dtype(), &[columns])?;
    match x.device() {
        Device::Cuda(_) => {
            expect_float("sum_rows", x)?;
            cuda::sum_rows::forward(x.cuda(), y.cuda_mut()?)?;
            Ok(y)
        }
        Device::WebGpu(_) => {
            expect_float("sum_rows", x)?;
            webgpu::sum_rows::forward(x.gpu()?.view(), y.gpu_mut()?)?;
            Ok(y)
        }
        Device::Cpu => float_type!("sum_rows", x, T => {
            cpu::elementwise::sum_rows(x.host::<T>(), y.host_mut::<T>());
            Ok(y)
        }),
    }
}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let mut sum = inputs[0].clone();
        add_assign(&mut sum, inputs[1])?;
        Ok(sum)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(saved.needs.iter().map(|&needed| needed.then(|| grad.clone())).collect())
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) / 2 * 3 }
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
    fn gradients_match_finite_differences() {
        gradcheck::op(|| Add, &[gradcheck::random(&[3, 4], 1), gradcheck::random(&[3, 4], 2)]);
    }
}
