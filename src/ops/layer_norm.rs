//! Layer norm (Ba et al., arXiv 1607.06450): y = (x − mean) / √(variance + eps) · weight + bias, row by row, the
//! variance over d. About 8 FLOPs an element; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;

/// Inputs: x `[rows, d]`, weight `[d]`, bias `[d]`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    eps: f64,
    /// `[rows, 2]`: mean and reciprocal standard deviation, kept for backward.
    moments: Option<Tensor>,
}

impl LayerNorm {
    /// With `eps` added to the variance.
    pub fn new(eps: f64) -> Self {
        LayerNorm { eps, moments: None }
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        let (rows, d) = x.dims2("layer_norm")?;
        expect_alike("layer_norm", inputs)?;
        expect_shape("layer_norm", "the weight", weight, &[d])?;
        expect_shape("layer_norm", "the bias", bias, &[d])?;
        let mut y = Tensor::scratch(x.device(), x.dtype(), &[rows, d])?;
        let mut moments = Tensor::scratch(x.device(), x.dtype(), &[rows, 2])?;
        match x.device() {
            Device::Cuda(_) => {
                expect_float("layer_norm", x)?;
                let (x, weight, bias) = (x.cuda(), weight.cuda(), bias.cuda());
                let parameters = [weight, bias];
                let (y, moments) = (y.cuda_mut()?, moments.cuda_mut()?);
                cuda::layer_norm::forward(x, parameters, self.eps as f32, y, moments)?;
            }
            Device::WebGpu(_) => {
                expect_float("layer_norm", x)?;
                let (x, weight, bias) = (x.gpu()?, weight.gpu()?, bias.gpu()?);
                let parameters = [weight.view(), bias.view()];
                let (y, moments) = (y.gpu_mut()?, moments.gpu_mut()?);
                webgpu::layer_norm::forward(x.view(), parameters, self.eps as f32, y, moments)?;
            }
            Device::Cpu => float_type!("layer_norm", x, T => {
                let (y, moments) = (y.host_mut::<T>(), moments.host_mut::<T>());
                let parameters = [weight.host(), bias.host()];
                cpu::layer_norm::forward::<T>(x.host(), parameters, self.eps as T, y, moments);
                Ok(())
            })?,
        }
        self.moments = record.then_some(moments);
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let x = saved.input(0);
        let (_, d) = x.dims2("layer_norm")?;
        let moments = self.moments.as_ref().expect("forward was recorded");
        let mut grads = vec![None, None, None];
        if saved.needs[0] {
            let weight = saved.input(1);
            let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
            match x.device() {
                Device::Cuda(_) => {
                    let (x, weight, moments, dy) = (x.cuda(), weight.cuda(), moments.cuda(), grad.cuda());
                    let (x, weight, moments, dy) = (x, weight, moments, dy);
                    cuda::layer_norm::backward_input(x, weight, moments, dy, dx.cuda_mut()?)?;
                }
                Device::WebGpu(_) => {
                    let (x, weight, moments, dy) = (x.gpu()?, weight.gpu()?, moments.gpu()?, grad.gpu()?);
                    let (x, weight, moments, dy) = (x.view(), weight.view(), moments.view(), dy.view());
                    webgpu::layer_norm::backward_input(x, weight, moments, dy, dx.gpu_mut()?)?;
                }
                Device::Cpu => float_type!("layer_norm", x, T => {
                    let (moments, dy) = (moments.host::<T>(), grad.host::<T>());
                    cpu::layer_norm::backward_input(x.host(), weight.host(), moments, dy, dx.host_mut());
                    Ok(())
                })?,
            }
            grads[0] = Some(dx);
        }
        if saved.needs[1] || saved.needs[2] {
            let mut sums = Tensor::scratch(x.device(), x.dtype(), &[2, d])?;
            match x.device() {
                Device::Cuda(_) => {
                    let (x, moments, dy) = (x.cuda(), moments.cuda(), grad.cuda());
                    let (x, moments, dy) = (x, moments, dy);
                    cuda::layer_norm::backward_parameters(x, moments, dy, sums.cuda_mut()?)?;
                }
                Device::WebGpu(_) => {
                    let (x, moments, dy) = (x.gpu()?, moments.gpu()?, grad.gpu()?);
                    let (x, moments, dy) = (x.view(), moments.view(), dy.view());
                    webgpu::layer_norm::backward_parameters(x, moments, dy, sums.gpu_mut()?)?;
                }
                Device::Cpu => float_type!("layer_norm", x, T => {
                    let (moments, dy) = (moments.host::<T>(), grad.host::<T>());
                    cpu::layer_norm::backward_parameters(x.host(), moments, dy, sums.host_mut());
                    Ok(())
                })?,
            }
            for i in 0..2 {
                if saved.needs[i + 1] {
                    grads[i + 1] = Some(sums.rows(i..i + 1)?.reshape(&[d])?);
                }
            }
        }
        Ok(grads)
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let len = inputs[0].len() as u64;
        Cost { flops: 8 * len, bytes: bytes_of(inputs) + len * inputs[0].dtype().size() as u64 }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        Cost { flops: 14 * grad.len() as u64, bytes: 3 * bytes_of(&[grad]) }
    }

    fn keeps_input(&self, index: usize, needs: &[bool]) -> bool {
        index == 0 || index == 1 && needs[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn inputs(rows: usize, d: usize) -> [Tensor; 3] {
        [gradcheck::random(&[rows, d], 1), gradcheck::random(&[d], 2), gradcheck::random(&[d], 3)]
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, d) in [(1, 2), (3, 16), (4, 21), (0, 5), (260, 2)] {
            gradcheck::op(|| LayerNorm::new(1e-2), &inputs(rows, d));
        }
    }

    #[test]
    fn values_equal_a_plain_loop() {
        let (rows, d, eps) = (4, 19, 1e-5);
        let tensors = inputs(rows, d);
        let y = LayerNorm::new(eps).forward(&tensors.each_ref(), false).unwrap().to_f64_vec().unwrap();
        let [x, w, b] = tensors.map(|t| t.to_f64_vec().unwrap());
        for (x, y) in x.chunks(d).zip(y.chunks(d)) {
            let mean = x.iter().sum::<f64>() / d as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
            for j in 0..d {
                let expected = (x[j] - mean) / (variance + eps).sqrt() * w[j] + b[j];
                assert!((y[j] - expected).abs() < 1e-12, "{} and {expected}", y[j]);
            }
        }
    }

    #[test]
    fn a_bias_of_another_width_is_an_error() {
        let [x, w, _] = inputs(3, 4);
        let error = LayerNorm::new(1e-5).forward(&[&x, &w, &gradcheck::random(&[3], 1)], false).unwrap_err();
        assert!(error.to_string().contains("the bias has shape [3], expected [4]"), "{error}");
    }
}
