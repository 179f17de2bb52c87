//! Softmax cross-entropy of the scores h·Wᵀ + b of all columns against one target a row: a linear head and its loss in one.
//! FLOPs 2·rows·d·columns a product, one forward and three where gradients are made, and about 10 a score; bytes of h, W, b
//! and the losses, and of the scores where the device keeps them.

use super::cross_entropy::{FLOPS_PER_LOGIT, Rows};
use super::matmul::{self, Terms, matmul};
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_ids, expect_shape, float_type};
use crate::device::{Device, cpu, profile};
use crate::tensor::Tensor;
use crate::{Error, Result};
use cpu::linear_cross_entropy::{Gradients, Head};

/// Inputs: h `[rows, d]`, W `[columns, d]`, b `[columns]`; output: losses `[rows]`, neither summed nor weighted. On the CPU
/// the scores are never all in memory.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    targets: Tensor,
    expected: Option<Tensor>,
    kept: Option<Kept>,
}

/// What backward needs of forward.
#[derive(Clone, Debug)]
enum Kept {
    /// Nothing.
    Nothing,
    /// Gradients of h, W and b, where that of the losses is the one that was expected.
    Gradients([Tensor; 3]),
    /// The scores, and log Σ exp of every row.
    Scores(Tensor, Tensor),
}

impl LinearCrossEntropy {
    /// Target columns, u32 `[rows]`.
    pub fn new(targets: Tensor) -> Self {
        LinearCrossEntropy { targets, expected: None, kept: None }
    }

    /// Says which gradient `[rows]` of the losses backward will be given. The CPU then makes those of the inputs in forward,
    /// where the scores are: otherwise it makes the scores again, as it does if it is given another one after all.
    #[must_use]
    pub fn expecting(self, grad: Tensor) -> Self {
        LinearCrossEntropy { expected: Some(grad), ..self }
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
        if d == 0 {
            return Err(Error::shape(self.name(), format!("h {:?} has no columns", h.shape())));
        }
        expect_shape(self.name(), "the weight", weight, &[columns, d])?;
        expect_shape(self.name(), "the bias", bias, &[columns])?;
        expect_shape(self.name(), "the targets tensor", &self.targets, &[rows])?;
        expect_ids(self.name(), &self.targets, h, columns)?;
        if let Some(expected) = &self.expected {
            expect_alike(self.name(), &[h, expected])?;
            expect_shape(self.name(), "the expected gradient", expected, &[rows])?;
        }
        let (losses, kept) = match h.device() {
            Device::Cpu => match self.expected.as_ref().filter(|_| record) {
                Some(expected) => {
                    let (losses, gradients) = self.gradients_on_host([h, weight, bias], expected)?;
                    (losses, Kept::Gradients(gradients))
                }
                None => {
                    let mut losses = Tensor::scratch(h.device(), h.dtype(), &[rows])?;
                    float_type!("linear_cross_entropy", h, T => {
                        let head = on_host::<T>([h, weight, bias], &self.targets);
                        cpu::linear_cross_entropy::forward(head, losses.host_mut());
                        Ok(())
                    })?;
                    (losses, Kept::Nothing)
                }
            },
            Device::Cuda(_) | Device::WebGpu(_) => {
                let mut scores = Tensor::scratch(h.device(), h.dtype(), &[rows, columns])?;
                let terms = Terms { bias: Some(bias), ..Terms::default() };
                matmul::run(h, weight, false, true, &mut scores, terms)?;
                let _range = profile::op(h.device(), "cross_entropy", || self.rows().cost(&scores, 1));
                let (losses, log_sums) = self.rows().forward(&scores)?;
                (losses, Kept::Scores(scores, log_sums))
            }
        };
        self.kept = record.then_some(kept);
        Ok(losses)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let inputs = [0, 1, 2].map(|i| saved.input(i));
        let needed = |gradients: [Tensor; 3]| {
            gradients.into_iter().zip(saved.needs).map(|(grad, &needed)| needed.then_some(grad)).collect()
        };
        match self.kept.as_ref().expect("forward was recorded") {
            Kept::Gradients(gradients) if self.is_expected(grad)? => Ok(needed(gradients.clone())),
            Kept::Gradients(_) | Kept::Nothing => Ok(needed(self.gradients_on_host(inputs, grad)?.1)),
            Kept::Scores(scores, log_sums) => {
                let dscores = {
                    let cost = || self.rows().cost(scores, 2);
                    let _range = profile::backward(grad.device(), "cross_entropy", cost);
                    self.rows().backward(scores, log_sums, grad)?
                };
                let dh = if saved.needs[0] { Some(matmul(&dscores, inputs[1], false, false)?) } else { None };
                let dweight =
                    if saved.needs[1] { Some(matmul(&dscores, inputs[0], true, false)?) } else { None };
                let dbias = if saved.needs[2] { Some(super::add::sum_rows(&dscores)?) } else { None };
                Ok(vec![dh, dweight, dbias])
            }
        }
    }

    /// Of a call whose gradients are made at once all of them. Where the device keeps the scores they are written and read.
    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let (on_host, element) = (inputs[0].device() == &Device::Cpu, inputs[0].dtype().size());
        let (rows, columns) = (inputs[0].shape()[0], inputs[1].shape()[0]);
        let at_once = on_host && self.expected.is_some();
        let losses = (rows * element) as u64;
        let gradients = if at_once { bytes_of(inputs) } else { 0 };
        let scores = if on_host { 0 } else { 2 * (rows * columns * element) as u64 };
        let bytes = bytes_of(inputs) + losses + gradients + scores;
        Cost { flops: flops(inputs, if at_once { 3 } else { 1 }), bytes }
    }

    fn tells_by_parts(&self, inputs: &[&Tensor]) -> bool {
        inputs[0].device() != &Device::Cpu
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let inputs = [0, 1, 2].map(|i| saved.input(i));
        let again = Cost { flops: flops(&inputs, 3), bytes: 2 * bytes_of(&inputs) + 2 * bytes_of(&[grad]) };
        match self.kept {
            Some(Kept::Nothing) => again,
            // The gradients are there: what came is compared with what was expected.
            Some(Kept::Gradients(_)) if self.is_expected(grad).unwrap_or(true) => {
                Cost { flops: 0, bytes: 2 * bytes_of(&[grad]) }
            }
            Some(Kept::Gradients(_)) => again,
            Some(Kept::Scores(..)) | None => Cost::default(),
        }
    }
}

/// Those of so many products and of a softmax.
fn flops(inputs: &[&Tensor], products: u64) -> u64 {
    let scores = (inputs[0].shape()[0] * inputs[1].shape()[0]) as u64;
    let d = inputs[0].shape().last().copied().unwrap_or(0) as u64;
    scores * (2 * d * products + FLOPS_PER_LOGIT)
}

impl LinearCrossEntropy {
    /// Losses, and the gradients of the inputs that follow from that of the losses.
    fn gradients_on_host(&self, inputs: [&Tensor; 3], grad: &Tensor) -> Result<(Tensor, [Tensor; 3])> {
        let scratch = |like: &Tensor| Tensor::scratch(like.device(), like.dtype(), like.shape());
        let mut losses = scratch(grad)?;
        let [mut h, mut weight, mut bias] = [scratch(inputs[0])?, scratch(inputs[1])?, scratch(inputs[2])?];
        float_type!("linear_cross_entropy", grad, T => {
            let gradients =
                Gradients::<T> { h: h.host_mut(), weight: weight.host_mut(), bias: bias.host_mut() };
            let head = on_host::<T>(inputs, &self.targets);
            cpu::linear_cross_entropy::with_gradients(head, grad.host(), losses.host_mut(), gradients);
            Ok(())
        })?;
        Ok((losses, [h, weight, bias]))
    }

    fn is_expected(&self, grad: &Tensor) -> Result<bool> {
        float_type!("linear_cross_entropy", grad, T => {
            Ok(self.expected.as_ref().is_some_and(|expected| expected.host::<T>() == grad.host::<T>()))
        })
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
        let weights: Vec<f64> = (0..rows).map(|i| 0.2 + i as f64 / 100.0).collect();
        enum Way {
            Apart,
            Fused,
            Expecting,
            ExpectingAnother,
        }
        let run = |dtype, way: Way| {
            let weights = Tensor::from_f64(&Device::Cpu, dtype, &weights, &[rows]).unwrap();
            let another = Tensor::full(&Device::Cpu, dtype, &[rows], 1.0).unwrap();
            let tensor = |i: usize| Tensor::from_f64(&Device::Cpu, dtype, &inputs[i], shapes[i]).unwrap();
            let [h, weight, bias] = [0, 1, 2].map(|i| Var::leaf(tensor(i)));
            let (op, inputs) = (LinearCrossEntropy::new(ids(&targets)), [&h, &weight, &bias]);
            let losses = match way {
                Way::Apart => {
                    let linear = Linear { bias: true, ..Linear::default() };
                    let logits = apply(linear, &inputs).unwrap();
                    apply(CrossEntropy::new(ids(&targets)), &[&logits]).unwrap()
                }
                Way::Fused => apply(op, &inputs).unwrap(),
                Way::Expecting => apply(op.expecting(weights.clone()), &inputs).unwrap(),
                Way::ExpectingAnother => apply(op.expecting(another), &inputs).unwrap(),
            };
            let grads = backward(&apply(DotWeights { weights }, &[&losses]).unwrap()).unwrap();
            let mut all = vec![losses.value().to_f64_vec().unwrap()];
            all.extend([h, weight, bias].map(|x| grads.of(&x).unwrap().to_f64_vec().unwrap()));
            all
        };
        let want = run(DType::F64, Way::Apart);
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 3e-5)] {
            let fused = run(dtype, Way::Fused);
            assert!(fused[1..] == run(dtype, Way::Expecting)[1..], "{dtype}: gradients made ahead differ");
            assert!(fused[1..] == run(dtype, Way::ExpectingAnother)[1..], "{dtype}: another gradient came");
            for (i, (found, want)) in fused.iter().zip(&want).enumerate() {
                assert_eq!(found.len(), want.len());
                for (found, want) in found.iter().zip(want) {
                    let close = (found - want).abs() <= tolerance * (1.0 + want.abs());
                    assert!(close, "{dtype}, result {i}: {found}, not {want}");
                }
            }
        }
    }

    #[test]
    fn the_work_of_both_passes_is_that_of_four_products_and_two_softmaxes_or_of_three_at_once() {
        let (rows, d, columns) = (3, 8, 5);
        let kept = [&[rows, d][..], &[columns, d], &[columns]].map(|shape| gradcheck::random(shape, 1));
        let inputs = [&kept[0], &kept[1], &kept[2]];
        let grad = gradcheck::random(&[rows], 2);
        let costs = |mut op: LinearCrossEntropy| {
            op.forward(&inputs, true).unwrap();
            let saved = kept.clone().map(Some);
            [op.cost(&inputs), op.backward_cost(&Saved::new(&saved, None, &[true; 3]), &grad)]
                .map(|cost| cost.flops as usize)
        };
        let (product, softmax) = (2 * rows * d * columns, 10 * rows * columns);
        let op = || LinearCrossEntropy::new(ids(&[1, 2, 0]));
        let again = 3 * product + softmax;
        assert_eq!(costs(op()), [product + softmax, again]);
        assert_eq!(costs(op().expecting(grad.clone())), [again, 0]);
        assert_eq!(costs(op().expecting(gradcheck::random(&[rows], 3))), [again, again]);
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
        let expected = gradcheck::random(&[3], 2);
        let mut op = LinearCrossEntropy::new(ids(&[1, 2])).expecting(expected);
        let error = op.forward(&[&h, &weight, &bias], true).unwrap_err().to_string();
        assert!(error.contains("the expected gradient"), "{error}");
    }
}
