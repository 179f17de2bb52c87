//! Activation functions, element by element. From 1 FLOP (ReLU) to about 30 (GELU), counted as 4; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_float, float_type};
use crate::Result;
use crate::device::{Device, cpu, cpu::Float, cpu::activation as kernel, cuda, webgpu};
use crate::tensor::Tensor;

/// Input: x of any shape; output of that shape. WebGPU's kernel knows them by their order here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), slope 0 at 0.
    Relu,
    /// x·Φ(x) with the normal distribution function Φ (Hendrycks and Gimpel, arXiv 1606.08415), by erf.
    Gelu,
    /// ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))): `gelu_pytorch_tanh` in Hugging Face configurations.
    GeluTanh,
    /// x·σ(x).
    Silu,
    /// σ(x) = 1/(1 + e⁻ˣ).
    Sigmoid,
    /// tanh x.
    Tanh,
}

/// Runs `$run::<Function>` for the activation's function.
macro_rules! for_function {
    ($activation:expr, $f:ident => $body:expr) => {
        match $activation {
            Activation::Relu => {
                let $f = kernel::Relu;
                $body
            }
            Activation::Gelu => {
                let $f = kernel::Gelu;
                $body
            }
            Activation::GeluTanh => {
                let $f = kernel::GeluTanh;
                $body
            }
            Activation::Silu => {
                let $f = kernel::Silu;
                $body
            }
            Activation::Sigmoid => {
                let $f = kernel::Sigmoid;
                $body
            }
            Activation::Tanh => {
                let $f = kernel::Tanh;
                $body
            }
        }
    };
}

impl Activation {
    fn values<T: Float>(self, x: &[T], y: &mut [T]) {
        for_function!(self, f => cpu::map::map(kernel::Value(f), [x], y));
    }

    fn gradients<T: Float>(self, x: &[T], dy: &[T], dx: &mut [T]) {
        for_function!(self, f => cpu::map::map(kernel::Backward(f), [x, dy], dx));
    }
}

impl Op for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let x = inputs[0];
        let mut y = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        match x.device() {
            Device::Cuda(_) => {
                expect_float("activation", x)?;
                cuda::activation::forward(*self as u32, x.cuda(), y.cuda_mut()?)?;
                Ok(y)
            }
            Device::WebGpu(_) => {
                expect_float("activation", x)?;
                webgpu::activation::forward(*self as u32, x.gpu()?.view(), y.gpu_mut()?)?;
                Ok(y)
            }
            Device::Cpu => float_type!("activation", x, T => {
                self.values::<T>(x.host(), y.host_mut());
                Ok(y)
            }),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let x = saved.input(0);
        let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        match x.device() {
            Device::Cuda(_) => {
                let (x, dy) = (x.cuda(), grad.cuda());
                cuda::activation::backward(*self as u32, x, dy, dx.cuda_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::WebGpu(_) => {
                let (x, dy) = (x.gpu()?, grad.gpu()?);
                webgpu::activation::backward(*self as u32, x.view(), dy.view(), dx.gpu_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::Cpu => float_type!("activation", x, T => {
                self.gradients::<T>(x.host(), grad.host(), dx.host_mut());
                Ok(vec![Some(dx)])
            }),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 4 * inputs[0].len() as u64, bytes: 2 * bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        Cost { flops: 8 * grad.len() as u64, bytes: 3 * bytes_of(&[grad]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
    ];

    /// Φ(x) by the midpoint rule: nothing in common with the kernel.
    fn normal(x: f64) -> f64 {
        let steps = 20_000;
        let width = x / f64::from(steps);
        let density = |u: f64| (-0.5 * u * u).exp() / (2.0 * std::f64::consts::PI).sqrt();
        0.5 + (0..steps).map(|i| density((f64::from(i) + 0.5) * width) * width).sum::<f64>()
    }

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Relu => x.max(0.0),
            Activation::Gelu => x * normal(x),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for activation in ALL {
            for shape in [[1, 1], [3, 17], [0, 2]] {
                gradcheck::op(|| activation, &[gradcheck::random(&shape, 1)]);
            }
        }
    }

    #[test]
    fn values_equal_the_formulas() {
        let x: Vec<f64> = (-60..=60).map(|i| f64::from(i) * 0.1037).collect();
        let single: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        for mut activation in ALL {
            let y = Tensor::from_slice(&Device::Cpu, &x, &[x.len()]).unwrap();
            let y = activation.forward(&[&y], false).unwrap().to_f64_vec().unwrap();
            let z = Tensor::from_slice(&Device::Cpu, &single, &[x.len()]).unwrap();
            let z = activation.forward(&[&z], false).unwrap().to_f64_vec().unwrap();
            for i in 0..x.len() {
                let (want, narrow) = (exact(activation, x[i]), exact(activation, f64::from(single[i])));
                assert!((y[i] - want).abs() < 1e-9, "{activation:?}({}) = {}, not {want}", x[i], y[i]);
                let error = (z[i] - narrow).abs();
                assert!(error < 4e-7 * narrow.abs().max(0.1), "{activation:?}({}): {error:e}", single[i]);
            }
        }
    }

    #[test]
    fn large_arguments_reach_the_limits_and_nan_stays() {
        let x = Tensor::from_slice(&Device::Cpu, &[-1e4f32, 1e4, f32::NAN], &[3]).unwrap();
        for mut activation in ALL {
            let y = activation.forward(&[&x], false).unwrap().to_vec::<f32>().unwrap();
            let (low, high) = match activation {
                Activation::Tanh => (-1.0, 1.0),
                Activation::Sigmoid => (0.0, 1.0),
                _ => (0.0, 1e4),
            };
            assert!(y[0] == low && y[1] == high && y[2].is_nan(), "{activation:?}: {y:?}");
        }
    }

    #[test]
    fn ids_have_no_activation() {
        let ids = Tensor::from_ids(&Device::Cpu, &[1, 2]).unwrap();
        assert!(Activation::Relu.forward(&[&ids], false).unwrap_err().to_string().contains("u32"));
    }
}
