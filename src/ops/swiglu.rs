//! SwiGLU (Shazeer, arXiv 2002.05202): silu(gate)·up with silu(x) = x·σ(x). About 5 FLOPs an element, eˣ counted
//! as one; bytes of gate, up and the output.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;

/// Inputs: gate and up, of one shape (`[rows, ffn]` in a decoder).
#[derive(Clone, Copy, Debug, Default)]
pub struct SwiGlu;

impl Op for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (gate, up) = (inputs[0], inputs[1]);
        expect_alike("swiglu", inputs)?;
        expect_shape("swiglu", "up", up, gate.shape())?;
        let mut y = Tensor::scratch(gate.device(), gate.dtype(), gate.shape())?;
        match gate.device() {
            Device::Cuda(_) => {
                expect_float("swiglu", gate)?;
                cuda::swiglu::forward(gate.cuda(), up.cuda(), y.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                expect_float("swiglu", gate)?;
                webgpu::swiglu::forward(gate.gpu()?.view(), up.gpu()?.view(), y.gpu_mut()?)?;
            }
            Device::Cpu => float_type!("swiglu", gate, T => {
                cpu::map::map::<T, 2>(cpu::swiglu::SwiGlu, [gate.host(), up.host()], y.host_mut());
                Ok(())
            })?,
        }
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (gate, up) = (saved.input(0), saved.input(1));
        let mut dgate = Tensor::scratch(gate.device(), gate.dtype(), gate.shape())?;
        let mut dup = Tensor::scratch(gate.device(), gate.dtype(), gate.shape())?;
        match gate.device() {
            Device::Cuda(_) => {
                let (gate, up, dy) = (gate.cuda(), up.cuda(), grad.cuda());
                let (dgate, dup) = (dgate.cuda_mut()?, dup.cuda_mut()?);
                cuda::swiglu::backward(gate, up, dy, dgate, dup)?;
            }
            Device::WebGpu(_) => {
                let (gate, up, dy) = (gate.gpu()?, up.gpu()?, grad.gpu()?);
                let (dgate, dup) = (dgate.gpu_mut()?, dup.gpu_mut()?);
                webgpu::swiglu::backward(gate.view(), up.view(), dy.view(), dgate, dup)?;
            }
            Device::Cpu => float_type!("swiglu", gate, T => {
                let (gate, up, dy) = (gate.host::<T>(), up.host::<T>(), grad.host::<T>());
                cpu::swiglu::backward(gate, up, dy, dgate.host_mut(), dup.host_mut());
                Ok(())
            })?,
        }
        Ok(vec![saved.needs[0].then_some(dgate), saved.needs[1].then_some(dup)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 5 * inputs[0].len() as u64, bytes: bytes_of(inputs) / 2 * 3 }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        Cost { flops: 10 * grad.len() as u64, bytes: 5 * bytes_of(&[grad]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for shape in [[1, 1], [3, 17], [0, 4]] {
            gradcheck::op(|| SwiGlu, &[gradcheck::random(&shape, 1), gradcheck::random(&shape, 2)]);
        }
    }

    #[test]
    fn f32_values_agree_with_f64_over_the_whole_range() {
        let gate: Vec<f32> = (0..20_011).map(|i| (i as f32 - 10_000.0) * 0.012).collect();
        let up: Vec<f32> = (0..20_011).map(|i| ((i * 7 % 13) as f32 - 6.0) * 0.4).collect();
        let tensor = |data: &[f32]| Tensor::from_slice(&Device::Cpu, data, &[data.len()]).unwrap();
        let y = SwiGlu.forward(&[&tensor(&gate), &tensor(&up)], false).unwrap().to_vec::<f32>().unwrap();
        for ((&g, &u), &y) in gate.iter().zip(&up).zip(&y) {
            let (g, u) = (f64::from(g), f64::from(u));
            let expected = g / (1.0 + (-g).exp()) * u;
            let error = (f64::from(y) - expected).abs();
            assert!(error <= 1e-6 * expected.abs() + 1e-30, "gate {g} up {u}: {y}, not {expected}");
        }
    }

    #[test]
    fn shapes_must_agree() {
        let (gate, up) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[3, 2], 2));
        assert!(
            SwiGlu.forward(&[&gate, &up], false).unwrap_err().to_string().contains("up has shape [3, 2]")
        );
    }
}
