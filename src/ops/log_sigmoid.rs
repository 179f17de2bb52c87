//! Pairwise loss −log σ(p − q − margin): the reward loss, and the pairwise form of the state loss (as in BPR, Rendle
//! et al., arXiv 1205.2618, and reward models with a margin). About 20 FLOPs a pair; bytes of the scores.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};
use cpu::log_sigmoid::Pairs;

/// Inputs: positive `[n]` (or `[n, 1]`), negative `[n, k]` (or `[n]`); output: losses `[n·k]`, neither summed nor
/// weighted.
#[derive(Clone, Copy, Debug, Default)]
pub struct PairLogSigmoid {
    /// Lead that a positive must have before its loss falls below log 2; 0 for none.
    pub margin: f64,
}

impl PairLogSigmoid {
    /// Negatives a positive, checked.
    fn negatives(positive: &Tensor, negative: &Tensor) -> Result<usize> {
        expect_alike("log_sigmoid", &[positive, negative])?;
        match (positive.shape(), negative.shape()) {
            (&[n] | &[n, 1], &[rows]) if n == rows => Ok(1),
            (&[n] | &[n, 1], &[rows, k]) if n == rows => Ok(k),
            (p, q) => {
                let problem = format!("positives {p:?} and negatives {q:?}, expected [n] and [n, k]");
                Err(Error::shape("log_sigmoid", problem))
            }
        }
    }

    fn pairs<'a, T: cpu::Float>(&self, positive: &'a Tensor, negative: &'a Tensor) -> Result<Pairs<'a, T>> {
        let k = Self::negatives(positive, negative)?;
        Ok(Pairs { positive: positive.host(), negative: negative.host(), k, margin: T::of(self.margin) })
    }
}

impl Op for PairLogSigmoid {
    fn name(&self) -> &'static str {
        "log_sigmoid"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (positive, negative) = (inputs[0], inputs[1]);
        let k = Self::negatives(positive, negative)?;
        let mut losses = Tensor::scratch(negative.device(), negative.dtype(), &[negative.len()])?;
        match negative.device() {
            Device::Cuda(_) => {
                expect_float("log_sigmoid", negative)?;
                let (p, q, margin) = (positive.cuda(), negative.cuda(), self.margin as f32);
                cuda::log_sigmoid::forward(p, q, k, margin, losses.cuda_mut()?)?;
                Ok(losses)
            }
            Device::WebGpu(_) => {
                expect_float("log_sigmoid", negative)?;
                let (p, q, margin) = (positive.gpu()?, negative.gpu()?, self.margin as f32);
                webgpu::log_sigmoid::forward(p.view(), q.view(), k, margin, losses.gpu_mut()?)?;
                Ok(losses)
            }
            Device::Cpu => float_type!("log_sigmoid", negative, T => {
                cpu::log_sigmoid::forward(self.pairs::<T>(positive, negative)?, losses.host_mut());
                Ok(losses)
            }),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (positive, negative) = (saved.input(0), saved.input(1));
        let mut dpositive = Tensor::scratch(positive.device(), positive.dtype(), positive.shape())?;
        let mut dnegative = Tensor::scratch(negative.device(), negative.dtype(), negative.shape())?;
        match negative.device() {
            Device::Cuda(_) => {
                let k = Self::negatives(positive, negative)?;
                let (p, q, grad) = (positive.cuda(), negative.cuda(), grad.cuda());
                let (p, q, grad, margin) = (p, q, grad, self.margin as f32);
                cuda::log_sigmoid::backward(p, q, grad, k, margin, dnegative.cuda_mut()?)?;
                if saved.needs[0] {
                    let dq = dnegative.cuda();
                    cuda::log_sigmoid::backward_positive(dq, k, dpositive.cuda_mut()?)?;
                }
            }
            Device::WebGpu(_) => {
                let k = Self::negatives(positive, negative)?;
                let (p, q, grad) = (positive.gpu()?, negative.gpu()?, grad.gpu()?);
                let (p, q, grad, margin) = (p.view(), q.view(), grad.view(), self.margin as f32);
                webgpu::log_sigmoid::backward(p, q, grad, k, margin, dnegative.gpu_mut()?)?;
                if saved.needs[0] {
                    let dq = dnegative.gpu()?;
                    webgpu::log_sigmoid::backward_positive(dq.view(), k, dpositive.gpu_mut()?)?;
                }
            }
            Device::Cpu => float_type!("log_sigmoid", negative, T => {
                let (dp, dq) = (dpositive.host_mut(), dnegative.host_mut());
                cpu::log_sigmoid::backward(self.pairs::<T>(positive, negative)?, grad.host(), dp, dq);
                Ok(())
            })?,
        }
        Ok(vec![saved.needs[0].then_some(dpositive), saved.needs[1].then_some(dnegative)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 20 * inputs[1].len() as u64, bytes: bytes_of(inputs) + bytes_of(&inputs[1..]) }
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let scores = bytes_of(&[saved.input(0), saved.input(1)]);
        Cost { flops: 20 * grad.len() as u64, bytes: 2 * scores + bytes_of(&[grad]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        let make = || PairLogSigmoid { margin: 0.3 };
        for (p, q) in
            [(&[3][..], &[3, 4][..]), (&[1], &[1, 1]), (&[5], &[5]), (&[2, 1], &[2, 3]), (&[0], &[0, 2])]
        {
            gradcheck::op(make, &[gradcheck::random(p, 1), gradcheck::random(q, 2)]);
        }
    }

    #[test]
    fn losses_equal_the_formula_and_never_overflow() {
        let of = |p: f32, q: f32| {
            let [p, q] = [p, q].map(|v| Tensor::from_slice(&Device::Cpu, &[v], &[1]).unwrap());
            PairLogSigmoid { margin: 0.5 }.forward(&[&p, &q], false).unwrap().item().unwrap()
        };
        assert!((of(1.0, 0.25) + (1.0 / (1.0 + (-0.25f64).exp())).ln()).abs() < 1e-6);
        assert_eq!(of(-500.0, 500.0), 1000.5);
        assert_eq!(of(500.0, -500.0), 0.0);
    }

    #[test]
    fn rows_that_do_not_pair_are_an_error() {
        let (p, q) = (gradcheck::random(&[3], 1), gradcheck::random(&[2, 4], 2));
        let error = PairLogSigmoid::default().forward(&[&p, &q], false).unwrap_err().to_string();
        assert!(error.contains("[3] and negatives [2, 4]"), "{error}");
    }
}
