//! Temporal-difference loss ½(target − q)² of Q-learning; the target carries no gradient. Four FLOPs an element;
//! bytes of q, target and loss.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: Q-values `[n]` or `[n, k]`; output: losses as a vector, `[n]` or `[n·k]`, neither summed nor weighted.
#[derive(Clone, Debug)]
pub struct TdLoss {
    /// Targets, as many as Q-values and in their order.
    pub targets: Tensor,
}

impl Op for TdLoss {
    fn name(&self) -> &'static str {
        "td_loss"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let q = inputs[0];
        expect_alike("td_loss", &[q, &self.targets])?;
        if self.targets.len() != q.len() {
            let problem = format!("{:?} targets for Q-values {:?}", self.targets.shape(), q.shape());
            return Err(Error::shape("td_loss", problem));
        }
        let mut losses = Tensor::scratch(q.device(), q.dtype(), &[q.len()])?;
        match q.device() {
            Device::Cuda(_) => {
                expect_float("td_loss", q)?;
                cuda::td_loss::forward(q.cuda(), self.targets.cuda(), losses.cuda_mut()?)?;
                Ok(losses)
            }
            Device::WebGpu(_) => {
                expect_float("td_loss", q)?;
                webgpu::td_loss::forward(q.gpu()?.view(), self.targets.gpu()?.view(), losses.gpu_mut()?)?;
                Ok(losses)
            }
            Device::Cpu => float_type!("td_loss", q, T => {
                cpu::td_loss::forward(q.host::<T>(), self.targets.host(), losses.host_mut());
                Ok(losses)
            }),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let q = saved.input(0);
        let mut dq = Tensor::scratch(q.device(), q.dtype(), q.shape())?;
        match q.device() {
            Device::Cuda(_) => {
                let (q, targets, grad) = (q.cuda(), self.targets.cuda(), grad.cuda());
                cuda::td_loss::backward(q, targets, grad, dq.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                let (q, targets, grad) = (q.gpu()?, self.targets.gpu()?, grad.gpu()?);
                webgpu::td_loss::backward(q.view(), targets.view(), grad.view(), dq.gpu_mut()?)?;
            }
            Device::Cpu => float_type!("td_loss", q, T => {
                cpu::td_loss::backward(q.host::<T>(), self.targets.host(), grad.host(), dq.host_mut());
                Ok(())
            })?,
        }
        Ok(vec![Some(dq)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 4 * inputs[0].len() as u64, bytes: 3 * bytes_of(inputs) }
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let q = saved.input(0);
        Cost { flops: 2 * q.len() as u64, bytes: 3 * bytes_of(&[q]) + bytes_of(&[grad]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for shape in [&[5][..], &[3, 4], &[1], &[0]] {
            let targets = gradcheck::random(shape, 1);
            gradcheck::op(|| TdLoss { targets: targets.clone() }, &[gradcheck::random(shape, 2)]);
        }
    }

    #[test]
    fn losses_are_half_squared_errors() {
        let tensor = |v: &[f32]| Tensor::from_slice(&Device::Cpu, v, &[v.len()]).unwrap();
        let losses =
            TdLoss { targets: tensor(&[1.0, -2.0]) }.forward(&[&tensor(&[3.0, -2.0])], false).unwrap();
        assert_eq!(losses.to_vec::<f32>().unwrap(), [2.0, 0.0]);
    }

    #[test]
    fn as_many_targets_as_values_are_expected() {
        let error =
            TdLoss { targets: gradcheck::random(&[3], 1) }.forward(&[&gradcheck::random(&[4], 2)], false);
        assert!(error.unwrap_err().to_string().contains("[3] targets"));
    }
}
