//! A decoder's final norm and a score head in one: scoreᵢ = RMSNorm(xᵢ)·head, see [`rms_norm`](super::rms_norm).
//! 4 FLOPs an element; bytes of x.

use super::mul::mul;
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_shape, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: x `[n, d]`, the norm's weight `[d]`, head `[d]`; output `[n]`.
#[derive(Clone, Debug)]
pub struct NormScore {
    eps: f64,
    /// 1/√(mean(x²) + eps) of every row, kept for backward.
    inverse: Option<Tensor>,
}

impl NormScore {
    /// With `eps` added to the mean square.
    pub fn new(eps: f64) -> Self {
        NormScore { eps, inverse: None }
    }
}

impl Op for NormScore {
    fn name(&self) -> &'static str {
        "norm_score"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (x, weight, head) = (inputs[0], inputs[1], inputs[2]);
        let (rows, d) = x.dims2("norm_score")?;
        expect_alike("norm_score", inputs)?;
        expect_shape("norm_score", "the norm's weight", weight, &[d])?;
        expect_shape("norm_score", "the head", head, &[d])?;
        if d == 0 {
            return Err(Error::shape("norm_score", "rows of width 0 have no score"));
        }
        let head = mul(weight, head)?;
        let mut scores = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        let mut inverse = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        match x.device() {
            Device::Cuda(_) => {
                let (x, head) = (x.cuda(), head.cuda());
                let (scores, inverse) = (scores.cuda_mut()?, inverse.cuda_mut()?);
                cuda::norm_score::forward(x, head, self.eps as f32, scores, inverse)?;
            }
            Device::WebGpu(_) => {
                let (x, head) = (x.gpu()?, head.gpu()?);
                let (scores, inverse) = (scores.gpu_mut()?, inverse.gpu_mut()?);
                webgpu::norm_score::forward(x.view(), head.view(), self.eps as f32, scores, inverse)?;
            }
            Device::Cpu => float_type!("norm_score", x, T => {
                let (scores, inverse) = (scores.host_mut::<T>(), inverse.host_mut::<T>());
                cpu::norm_score::forward::<T>(x.host(), head.host(), self.eps as T, scores, inverse);
                Ok(())
            })?,
        }
        self.inverse = record.then_some(inverse);
        Ok(scores)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, weight, head) = (saved.input(0), saved.input(1), saved.input(2));
        let inverse = self.inverse.as_ref().expect("forward was recorded");
        let both = mul(weight, head)?;
        let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        let mut dboth = Tensor::scratch(x.device(), x.dtype(), weight.shape())?;
        let parameters = saved.needs[1] || saved.needs[2];
        match x.device() {
            Device::Cuda(_) => {
                let (x, both, scores) = (x.cuda(), both.cuda(), saved.output().cuda());
                let (inverse, dscores) = (inverse.cuda(), grad.cuda());
                let rows = cuda::norm_score::Rows { scores, inverse, dscores };
                if saved.needs[0] {
                    cuda::norm_score::backward_input(x, both, rows, dx.cuda_mut()?)?;
                }
                if parameters {
                    cuda::norm_score::backward_head(x, rows, dboth.cuda_mut()?)?;
                }
            }
            Device::WebGpu(_) => {
                let (x, both, scores) = (x.gpu()?, both.gpu()?, saved.output().gpu()?);
                let (inverse, dscores) = (inverse.gpu()?, grad.gpu()?);
                let rows = webgpu::norm_score::Rows {
                    scores: scores.view(),
                    inverse: inverse.view(),
                    dscores: dscores.view(),
                };
                if saved.needs[0] {
                    webgpu::norm_score::backward_input(x.view(), both.view(), rows, dx.gpu_mut()?)?;
                }
                if parameters {
                    webgpu::norm_score::backward_head(x.view(), rows, dboth.gpu_mut()?)?;
                }
            }
            Device::Cpu => float_type!("norm_score", x, T => {
                let scores = saved.output().host::<T>();
                let rows = cpu::norm_score::Rows { scores, inverse: inverse.host(), dscores: grad.host() };
                if saved.needs[0] {
                    cpu::norm_score::backward_input(x.host(), both.host(), rows, dx.host_mut());
                }
                if parameters {
                    cpu::norm_score::backward_head(x.host(), rows, dboth.host_mut());
                }
                Ok(())
            })?,
        }
        let dweight = if saved.needs[1] { Some(mul(&dboth, head)?) } else { None };
        let dhead = if saved.needs[2] { Some(mul(&dboth, weight)?) } else { None };
        Ok(vec![saved.needs[0].then_some(dx), dweight, dhead])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 4 * inputs[0].len() as u64, bytes: bytes_of(inputs) }
    }

    fn backward_cost(&self, saved: &Saved, _grad: &Tensor) -> Cost {
        let (x, [rows, parameters]) = (saved.input(0), [saved.needs[0], saved.needs[1] || saved.needs[2]]);
        let flops = (if rows { 5 } else { 0 }) + (if parameters { 2 } else { 0 });
        Cost { flops: flops * x.len() as u64, bytes: (1 + u64::from(rows)) * bytes_of(&[x]) }
    }

    fn keeps_output(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::ops::{RmsNorm, matmul::matmul};

    fn inputs(rows: usize, d: usize) -> [Tensor; 3] {
        [gradcheck::random(&[rows, d], 1), gradcheck::random(&[d], 2), gradcheck::random(&[d], 3)]
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, d) in [(1, 1), (4, 21), (0, 3), (260, 1)] {
            gradcheck::op(|| NormScore::new(1e-5), &inputs(rows, d));
        }
    }

    #[test]
    fn scores_equal_the_norm_followed_by_a_product() {
        let [x, weight, head] = inputs(7, 33);
        let scores = NormScore::new(1e-5).forward(&[&x, &weight, &head], false).unwrap();
        let normed = RmsNorm::new(1e-5).forward(&[&x, &weight], false).unwrap();
        let expected = matmul(&normed, &head.reshape(&[1, 33]).unwrap(), false, true).unwrap();
        let pairs = scores.to_f64_vec().unwrap().into_iter().zip(expected.to_f64_vec().unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-14));
    }

    #[test]
    fn a_score_has_the_same_bits_whatever_rows_stand_beside_it() {
        let [x, weight, head] = inputs(1000, 33);
        let run = |x: &Tensor| {
            NormScore::new(1e-5).forward(&[x, &weight, &head], false).unwrap().to_f64_vec().unwrap()
        };
        let all = run(&x);
        assert_eq!(run(&x.rows(511..777).unwrap()), all[511..777]);
    }

    #[test]
    fn a_head_of_another_width_is_an_error() {
        let [x, weight, _] = inputs(2, 4);
        let error = NormScore::new(1e-5).forward(&[&x, &weight, &gradcheck::random(&[5], 1)], false);
        assert!(error.unwrap_err().to_string().contains("the head has shape [5], expected [4]"));
    }
}
