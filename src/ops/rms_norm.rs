//! Root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467): y = x / √(mean(x²) + eps) · weight, row by row.
//! About 4 FLOPs an element; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_output, expect_shape, float_type};
use crate::Result;
use crate::device::{DType, Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use half::bf16;

/// Inputs: x `[rows, d]`, weight `[d]`.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    eps: f64,
    giving: Option<DType>,
    /// 1/√(mean(x²) + eps) of every row, kept for backward.
    inverse: Option<Tensor>,
}

impl RmsNorm {
    /// With `eps` added to the mean square.
    pub fn new(eps: f64) -> Self {
        RmsNorm { eps, giving: None, inverse: None }
    }

    /// Its output is in that type: that of x, or on CUDA and the CPU bf16, rounded to nearest and without backward.
    pub fn giving(self, dtype: DType) -> Self {
        RmsNorm { giving: Some(dtype), ..self }
    }
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (x, weight) = (inputs[0], inputs[1]);
        let (rows, d) = x.dims2("rms_norm")?;
        expect_alike("rms_norm", inputs)?;
        expect_shape("rms_norm", "the weight", weight, &[d])?;
        let giving = self.giving.unwrap_or(x.dtype());
        expect_output("rms_norm", x, giving, record)?;
        let mut y = Tensor::scratch(x.device(), giving, &[rows, d])?;
        let mut inverse = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        match x.device() {
            Device::Cuda(_) => {
                let (y, inverse) = (y.cuda_mut()?, inverse.cuda_mut()?);
                cuda::rms_norm::forward(x.cuda(), weight.cuda(), self.eps as f32, y, inverse)?;
            }
            Device::WebGpu(_) => {
                let (x, weight) = (x.gpu()?, weight.gpu()?);
                let (y, inverse) = (y.gpu_mut()?, inverse.gpu_mut()?);
                webgpu::rms_norm::forward(x.view(), weight.view(), self.eps as f32, y, inverse)?;
            }
            Device::Cpu if giving == DType::BF16 => {
                let (x, weight, inverse) = (x.host::<f32>(), weight.host(), inverse.host_mut());
                cpu::rms_norm::forward(x, weight, self.eps as f32, y.host_mut::<bf16>(), inverse);
            }
            Device::Cpu => float_type!("rms_norm", x, T => {
                let (y, inverse) = (y.host_mut::<T>(), inverse.host_mut::<T>());
                cpu::rms_norm::forward(x.host(), weight.host(), self.eps as T, y, inverse);
                Ok(())
            })?,
        }
        self.inverse = record.then_some(inverse);
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, weight) = (saved.input(0), saved.input(1));
        let inverse = self.inverse.as_ref().expect("forward was recorded");
        let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        let mut dweight = Tensor::scratch(x.device(), x.dtype(), weight.shape())?;
        match x.device() {
            Device::Cuda(_) => {
                let (x, weight, inverse, dy) = (x.cuda(), weight.cuda(), inverse.cuda(), grad.cuda());
                if saved.needs[0] {
                    cuda::rms_norm::backward_input(x, weight, inverse, dy, dx.cuda_mut()?)?;
                }
                if saved.needs[1] {
                    cuda::rms_norm::backward_weight(x, inverse, dy, dweight.cuda_mut()?)?;
                }
            }
            Device::WebGpu(_) => {
                let (x, weight, inverse, dy) = (x.gpu()?, weight.gpu()?, inverse.gpu()?, grad.gpu()?);
                let (x, weight, inverse, dy) = (x.view(), weight.view(), inverse.view(), dy.view());
                if saved.needs[0] {
                    webgpu::rms_norm::backward_input(x, weight, inverse, dy, dx.gpu_mut()?)?;
                }
                if saved.needs[1] {
                    webgpu::rms_norm::backward_weight(x, inverse, dy, dweight.gpu_mut()?)?;
                }
            }
            Device::Cpu => float_type!("rms_norm", x, T => {
                let (x, inverse, dy) = (x.host::<T>(), inverse.host::<T>(), grad.host::<T>());
                if saved.needs[0] {
                    cpu::rms_norm::backward_input(x, weight.host(), inverse, dy, dx.host_mut());
                }
                if saved.needs[1] {
                    cpu::rms_norm::backward_weight(x, inverse, dy, dweight.host_mut());
                }
                Ok(())
            })?,
        }
        Ok(vec![saved.needs[0].then_some(dx), saved.needs[1].then_some(dweight)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let len = inputs[0].len() as u64;
        let written = self.giving.unwrap_or(inputs[0].dtype()).size() as u64;
        Cost { flops: 4 * len, bytes: bytes_of(inputs) + len * written }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        Cost { flops: 8 * grad.len() as u64, bytes: 3 * bytes_of(&[grad]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, d) in [(1, 1), (3, 16), (4, 21)] {
            gradcheck::op(
                || RmsNorm::new(1e-5),
                &[gradcheck::random(&[rows, d], 1), gradcheck::random(&[d], 2)],
            );
        }
    }

    #[test]
    fn rows_have_unit_mean_square() {
        let x = gradcheck::random(&[5, 37], 3);
        let one = Tensor::full(&Device::Cpu, x.dtype(), &[37], 1.0).unwrap();
        let y = RmsNorm::new(0.0).forward(&[&x, &one], false).unwrap().to_f64_vec().unwrap();
        for row in y.chunks(37) {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / 37.0;
            assert!((mean - 1.0).abs() < 1e-12, "{mean}");
        }
    }
}
