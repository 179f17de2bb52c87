//! Sums: a + b, a += b, the sum over rows. One FLOP an element; bytes of what is read and written.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;

/// Sum of two tensors of one shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

/// Sum of two tensors of one shape, without autograd.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let _range = profile::op(a.device(), "add", || sum_cost(a));
    forward(a, b)
}

fn forward(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_alike("add", &[a, b])?;
    expect_shape("add", "the second term", b, a.shape())?;
    let mut y = Tensor::scratch(a.device(), a.dtype(), a.shape())?;
    match a.device() {
        Device::Cuda(_) => {
            expect_float("add", a)?;
            cuda::add::forward(a.cuda(), b.cuda(), y.cuda_mut()?)?;
            Ok(y)
        }
        Device::WebGpu(_) => {
            expect_float("add", a)?;
            webgpu::add::forward(a.gpu()?.view(), b.gpu()?.view(), y.gpu_mut()?)?;
            Ok(y)
        }
        Device::Cpu => float_type!("add", a, T => {
            let (a, b) = (a.host::<T>(), b.host::<T>());
            cpu::map::map(cpu::elementwise::Total, [a, b], y.host_mut());
            Ok(y)
        }),
    }
}

/// a += b.
pub fn add_assign(a: &mut Tensor, b: &Tensor) -> Result<()> {
    expect_alike("add", &[a, b])?;
    expect_shape("add", "the second term", b, a.shape())?;
    let _range = profile::op(b.device(), "add", || sum_cost(b));
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
    let _range = profile::op(x.device(), "sum_rows", || Cost {
        flops: x.len() as u64,
        bytes: bytes_of(&[x]) + (columns * x.dtype().size()) as u64,
    });
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

/// Of a term and another like it, both read, and their sum, written.
fn sum_cost(term: &Tensor) -> Cost {
    Cost { flops: term.len() as u64, bytes: 3 * bytes_of(&[term]) }
}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        forward(inputs[0], inputs[1])
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(saved.needs.iter().map(|&needed| needed.then(|| grad.clone())).collect())
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        sum_cost(inputs[0])
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
