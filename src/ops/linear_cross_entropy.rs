//! Softmax cross-entropy of the scores h·Wᵀ + b of all columns against one target a row: a linear head and its loss in one.
//! FLOPs 2·rows·d·columns and about 10 a score; bytes of h, W, b and the losses, and of the scores where the device keeps
//! them.

use super::cross_entropy::{FLOPS_PER_LOGIT, Rows};
use super::matmul::{self, Terms, matmul};
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_ids, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu};
use crate::tensor::Tensor;
use cpu::linear_cross_entropy::{Gradients, Head};

/// Inputs: h `[rows, d]`, W `[columns, d]`, b `[columns]`; output: losses `[rows]`, neither summed nor weighted. On the CPU
/// the scores are never all in memory.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    targets: Tensor,
    /// Kept for backward: log Σ exp of every row, and the scores where the device keeps them.
    kept: Option<(Tensor, Option<Tensor>)>,
}

impl LinearCrossEntropy {
    /// Target columns, u32 `[rows]`.
    pub fn new(targets: Tensor) -> Self {
        LinearCrossEntropy { targets, kept: None }
    }

    fn rows(&self) -> Rows<'_> {
        Rows { op: "linear_cross_entropy", targets: &self.targets, mask: None, scale: 1.0 }
    }
}

/// The head in host memory.
fn on_host<'a, T: cpu::Float>([h, weight, bias]: [&'a Tensor; 3], targets: &'a Tensor) -> Head<'a, T> {
    Head { h: h.host(), weight: weight.host(), bias: bias.host(), targets: targets.host() }
}

impl Op for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (h, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        expect_alike(self.name(), inputs)?;
        let ((rows, d), (columns, _)) = (h.dims2(self.name())?, weight.dims2(self.name())?);
        expect_shape(self.name(), "the weight", weight, &[columns, d])?;
        expect_shape(self.name(), "the bias", bias, &[columns])?;
        expect_shape(self.name(), "the targets tensor", &self.targets, &[rows])?;
        expect_ids(self.name(), &self.targets, h, columns)?;
        let (losses, log_sums, scores) = match h.device() {
            Device::Cpu => {
                let mut losses = Tensor::scratch(h.device(), h.dtype(), &[rows])?;
                let mut log_sums = Tensor::scratch(h.device(), h.dtype(), &[rows])?;
                float_type!("linear_cross_entropy", h, T => {
                    let head = on_host::<T>([h, weight, bias], &self.targets);
                    cpu::linear_cross_entropy::forward(head, losses.host_mut(), log_sums.host_mut());
                    Ok(())
                })?;
                (losses, log_sums, None)
            }
            Device::Cuda(_) | Device::WebGpu(_) => {
                let mut scores = Tensor::scratch(h.device(), h.dtype(), &[rows, columns])?;
                let terms = Terms { bias: Some(bias), ..Terms::default() };
                matmul::run(h, weight, false, true, &mut scores, terms)?;
                let (losses, log_sums) = self.rows().forward(&scores)?;
                (losses, log_sums, Some(scores))
            }
        };
        self.kept = record.then_some((log_sums, scores));
        Ok(losses)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (log_sums, scores) = self.kept.as_ref().expect("forward was recorded");
        let inputs = [0, 1, 2].map(|i| saved.input(i));
        let Some(scores) = scores else { return self.backward_on_host(inputs, saved.needs, log_sums, grad) };
        let dscores = self.rows().backward(scores, log_sums, grad)?;
        let dh = if saved.needs[0] { Some(matmul(&dscores, inputs[1], false, false)?) } else { None };
        let dweight = if saved.needs[1] { Some(matmul(&dscores, inputs[0], true, false)?) } else { None };
        let dbias = if saved.needs[2] { Some(super::add::sum_rows(&dscores)?) } else { None };
        Ok(vec![dh, dweight, dbias])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let scores = (inputs[0].shape()[0] * inputs[1].shape()[0]) as u64;
        let d = inputs[0].shape().last().copied().unwrap_or(0) as u64;
        let losses = (inputs[0].shape()[0] * inputs[0].dtype().size()) as u64;
        Cost { flops: scores * (2 * d + FLOPS_PER_LOGIT), bytes: bytes_of(inputs) + losses }
    }
}

impl LinearCrossEntropy {
    fn backward_on_host(
        &self,
        inputs: [&Tensor; 3],
        needs: &[bool],
        log_sums: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let mut grads = Vec::with_capacity(3);
        for (x, &needed) in inputs.iter().zip(needs) {
            grads.push(if needed { Some(Tensor::scratch(x.device(), x.dtype(), x.shape())?) } else { None });
        }
        float_type!("linear_cross_entropy", grad, T => {
            let [h, weight, bias] = grads.get_disjoint_mut([0, 1, 2]).expect("three gradients");
            let gradients = Gradients::<T> {
                h: h.as_mut().map(Tensor::host_mut),
                weight: weight.as_mut().map(Tensor::host_mut),
                bias: bias.as_mut().map(Tensor::host_mut),
            };
            let head = on_host::<T>(inputs, &self.targets);
            cpu::linear_cross_entropy::backward(head, log_sums.host(), grad.host(), gradients);
            Ok(())
        })?;
        Ok(grads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Var, apply, backward, gradcheck};
    use crate::device::DType;
    use crate::ops::{CrossEntropy, DotWeights, Linear};

    fn ids(ids: &[u32]) -> Tensor {
        Tensor::from_ids(&Device::Cpu, ids).unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let inputs = [&[4, 3][..], &[5, 3], &[5]].map(|shape| gradcheck::random(shape, shape.len() as u64));
        gradcheck::op(|| LinearCrossEntropy::new(ids(&[4, 0, 2, 2])), &inputs);
        let none = [&[0, 3][..], &[5, 3], &[5]].map(|shape| gradcheck::random(shape, 1));
        gradcheck::op(|| LinearCrossEntropy::new(ids(&[])), &none);
    }

    #[test]
    fn it_is_the_cross_entropy_of_the_linear_head_over_many_blocks() {
        let (rows, d, columns) = (400, 7, 9001);
        let shapes = [&[rows, d][..], &[columns, d], &[columns]];
        let inputs = [1, 2, 3].map(|i| gradcheck::random(shapes[i - 1], i as u64).to_f64_vec().unwrap());
        let targets: Vec<u32> = (0..rows as u32).map(|i| i * 47 % columns as u32).collect();
        let run = |dtype, fused: bool| {
            let tensor = |i: usize| Tensor::from_f64(&Device::Cpu, dtype, &inputs[i], shapes[i]).unwrap();
            let [h, weight, bias] = [0, 1, 2].map(|i| Var::leaf(tensor(i)));
            let losses = if fused {
                apply(LinearCrossEntropy::new(ids(&targets)), &[&h, &weight, &bias]).unwrap()
            } else {
                let linear = Linear { bias: true, ..Linear::default() };
                let logits = apply(linear, &[&h, &weight, &bias]).unwrap();
                apply(CrossEntropy::new(ids(&targets)), &[&logits]).unwrap()
            };
            let weights: Vec<f64> = (0..rows).map(|i| 0.2 + i as f64 / 100.0).collect();
            let weights = Tensor::from_f64(&Device::Cpu, dtype, &weights, &[rows]).unwrap();
            let grads = backward(&apply(DotWeights { weights }, &[&losses]).unwrap()).unwrap();
            let mut all = vec![losses.value().to_f64_vec().unwrap()];
            all.extend([h, weight, bias].map(|x| grads.of(&x).unwrap().to_f64_vec().unwrap()));
            all
        };
        let want = run(DType::F64, false);
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 3e-5)] {
            for (i, (found, want)) in run(dtype, true).iter().zip(&want).enumerate() {
                assert_eq!(found.len(), want.len());
                for (found, want) in found.iter().zip(want) {
                    let close = (found - want).abs() <= tolerance * (1.0 + want.abs());
                    assert!(close, "{dtype}, result {i}: {found}, not {want}");
                }
            }
        }
    }

    #[test]
    fn shapes_and_targets_must_fit() {
        let [h, weight, bias] = [&[2, 3][..], &[4, 3], &[4]].map(|shape| gradcheck::random(shape, 1));
        let run = |targets: &[u32], inputs: [&Tensor; 3]| {
            LinearCrossEntropy::new(ids(targets)).forward(&inputs, false).unwrap_err().to_string()
        };
        assert!(run(&[1], [&h, &weight, &bias]).contains("targets"));
        assert!(run(&[1, 4], [&h, &weight, &bias]).contains("id 4"));
        assert!(run(&[1, 2], [&h, &h, &bias]).contains("bias"));
    }
}
