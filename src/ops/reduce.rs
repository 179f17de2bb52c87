//! Sum, mean and weighted sum of all elements, in an order that depends on the length alone. One FLOP an element
//! (two with weights); bytes of the inputs.

use super::scale::scale;
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: x of any shape; output `[1]`, Σ x.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Shape of x, kept for backward.
    shape: Vec<usize>,
}

/// Input: x of any shape; output `[1]`, the mean. No elements have no mean: an error.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    shape: Vec<usize>,
}

/// Input: x `[n]`; output `[1]`, Σ wᵢ·xᵢ with the constants w: what turns losses per row into one.
#[derive(Clone, Debug)]
pub struct DotWeights {
    /// w `[n]`.
    pub weights: Tensor,
}

impl Sum {
    /// Of any shape.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Mean {
    /// Of any shape.
    pub fn new() -> Self {
        Self::default()
    }
}

/// `[1]`: factor · Σ x.
fn scaled_sum(op: &'static str, x: &Tensor, factor: f64) -> Result<Tensor> {
    let mut y = Tensor::scratch(x.device(), x.dtype(), &[1])?;
    match x.device() {
        Device::Cuda(_) => {
            expect_float(op, x)?;
            cuda::reduce::sum(x.cuda(), factor as f32, y.cuda_mut()?)?;
            Ok(y)
        }
        Device::WebGpu(_) => {
            expect_float(op, x)?;
            webgpu::reduce::sum(x.gpu()?.view(), factor as f32, y.gpu_mut()?)?;
            Ok(y)
        }
        Device::Cpu => float_type!(op, x, T => {
            y.host_mut::<T>()[0] = (factor * cpu::reduce::sum(x.host::<T>())) as T;
            Ok(y)
        }),
    }
}

/// Of `len` elements, each a multiple of the one of `grad`.
fn spread_cost(grad: &Tensor, len: usize) -> Cost {
    Cost { flops: len as u64, bytes: ((1 + len) * grad.dtype().size()) as u64 }
}

/// Every element of `shape` = factor · the one element of `grad`.
fn spread(op: &'static str, grad: &Tensor, factor: f64, shape: &[usize]) -> Result<Tensor> {
    let mut dx = Tensor::scratch(grad.device(), grad.dtype(), shape)?;
    match grad.device() {
        Device::Cuda(_) => {
            cuda::reduce::spread(grad.cuda(), factor as f32, dx.cuda_mut()?)?;
            Ok(dx)
        }
        Device::WebGpu(_) => {
            webgpu::reduce::spread(grad.gpu()?.view(), factor as f32, dx.gpu_mut()?)?;
            Ok(dx)
        }
        Device::Cpu => float_type!(op, grad, T => {
            dx.host_mut::<T>().fill(grad.host::<T>()[0] * factor as T);
            Ok(dx)
        }),
    }
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        self.shape = inputs[0].shape().to_vec();
        scaled_sum("sum", inputs[0], 1.0)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(spread("sum", grad, 1.0, &self.shape)?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        spread_cost(grad, self.shape.iter().product())
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

impl Op for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let x = inputs[0];
        if x.is_empty() {
            return Err(Error::shape("mean", format!("shape {:?} has no elements to average", x.shape())));
        }
        self.shape = x.shape().to_vec();
        scaled_sum("mean", x, 1.0 / x.len() as f64)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let len: usize = self.shape.iter().product();
        Ok(vec![Some(spread("mean", grad, 1.0 / len as f64, &self.shape)?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        spread_cost(grad, self.shape.iter().product())
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

impl Op for DotWeights {
    fn name(&self) -> &'static str {
        "dot_weights"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let x = inputs[0];
        let len = x.dims1("dot_weights")?;
        expect_alike("dot_weights", &[x, &self.weights])?;
        expect_shape("dot_weights", "the vector of weights", &self.weights, &[len])?;
        let mut y = Tensor::scratch(x.device(), x.dtype(), &[1])?;
        match x.device() {
            Device::Cuda(_) => {
                expect_float("dot_weights", x)?;
                cuda::reduce::dot(x.cuda(), self.weights.cuda(), y.cuda_mut()?)?;
                Ok(y)
            }
            Device::WebGpu(_) => {
                expect_float("dot_weights", x)?;
                webgpu::reduce::dot(x.gpu()?.view(), self.weights.gpu()?.view(), y.gpu_mut()?)?;
                Ok(y)
            }
            Device::Cpu => float_type!("dot_weights", x, T => {
                y.host_mut::<T>()[0] = cpu::reduce::dot::<T>(self.weights.host(), x.host()) as T;
                Ok(y)
            }),
        }
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        match grad.device() {
            Device::Cuda(_) => {
                let weights = &self.weights;
                let mut dx = Tensor::scratch(weights.device(), weights.dtype(), weights.shape())?;
                let (grad, weights) = (grad.cuda(), weights.cuda());
                cuda::reduce::spread_weights(grad, weights, dx.cuda_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::WebGpu(_) => {
                let weights = &self.weights;
                let mut dx = Tensor::scratch(weights.device(), weights.dtype(), weights.shape())?;
                let (grad, weights) = (grad.gpu()?, weights.gpu()?);
                webgpu::reduce::spread_weights(grad.view(), weights.view(), dx.gpu_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::Cpu => Ok(vec![Some(scale(&self.weights, grad.item()?)?)]),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 2 * inputs[0].len() as u64, bytes: 2 * bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        let spread = spread_cost(grad, self.weights.len());
        Cost { bytes: spread.bytes + bytes_of(&[&self.weights]), ..spread }
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
        for shape in [[1, 1], [3, 17]] {
            gradcheck::op(Sum::new, &[gradcheck::random(&shape, 1)]);
            gradcheck::op(Mean::new, &[gradcheck::random(&shape, 1)]);
        }
        gradcheck::op(Sum::new, &[gradcheck::random(&[0, 4], 1)]);
        for n in [1, 37, 0] {
            let weights = gradcheck::random(&[n], 2);
            gradcheck::op(|| DotWeights { weights: weights.clone() }, &[gradcheck::random(&[n], 1)]);
        }
    }

    /// 200,003 elements: more than a chunk, and no multiple of one.
    fn long() -> (Vec<f32>, Tensor) {
        let data: Vec<f32> = (0..200_003u32).map(|i| (i % 1009) as f32 * 0.37 - 100.0).collect();
        let x = Tensor::from_slice(&Device::Cpu, &data, &[data.len()]).unwrap();
        (data, x)
    }

    #[test]
    fn long_sums_in_f32_keep_their_precision() {
        let (data, x) = long();
        let exact: f64 = data.iter().map(|&v| f64::from(v)).sum();
        let scale: f64 = data.iter().map(|&v| f64::from(v).abs()).sum();
        let sum = Sum::new().forward(&[&x], false).unwrap().item().unwrap();
        assert!((sum - exact).abs() < 1e-7 * scale, "{sum} and {exact}");
        let mean = Mean::new().forward(&[&x], false).unwrap().item().unwrap();
        assert!((mean - exact / data.len() as f64).abs() < 1e-7 * scale / data.len() as f64);
        let squares: f64 = data.iter().map(|&v| f64::from(v).powi(2)).sum();
        let dot = DotWeights { weights: x.clone() }.forward(&[&x], false).unwrap().item().unwrap();
        assert!((dot - squares).abs() < 1e-6 * squares, "{dot} and {squares}");
    }

    #[test]
    fn sums_have_the_same_bits_for_any_number_of_threads() {
        let (_, x) = long();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let sum = Sum::new().forward(&[&x], false).unwrap().item().unwrap();
                let dot = DotWeights { weights: x.clone() }.forward(&[&x], false).unwrap();
                (sum.to_bits(), dot.item().unwrap().to_bits())
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn an_empty_mean_and_weights_of_another_length_are_errors() {
        assert!(Mean::new().forward(&[&gradcheck::random(&[0], 1)], false).is_err());
        let error = DotWeights { weights: gradcheck::random(&[3], 1) }
            .forward(&[&gradcheck::random(&[4], 2)], false)
            .unwrap_err();
        assert!(error.to_string().contains("weights has shape [3], expected [4]"), "{error}");
    }
}
