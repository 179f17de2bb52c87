//! y = x·Wᵀ (+ bias) (+ residual), the layout of `torch.nn.Linear`. FLOPs 2·rows·in·out; bytes of x, W and y.

use super::matmul::{self, Terms, expect_computed, matmul, product_onto};
use super::{Cost, Op, Saved, bytes_of, expect_shape};
use crate::device::DType;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: x `[rows, in]`, W `[out, in]`, then bias `[out]` if `bias`, then residual `[rows, out]` if `residual`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linear {
    /// A bias is among the inputs.
    pub bias: bool,
    /// A residual to add is among the inputs.
    pub residual: bool,
    /// The type of y, where it is not that of bias and residual: bf16, on CUDA and the CPU, beside a W in bf16. Without backward.
    pub giving: Option<DType>,
}

impl Linear {
    fn output(&self, x: &Tensor) -> DType {
        self.giving.unwrap_or(x.dtype().computed())
    }

    /// Gradients, that of x added to `of_x` where it is there.
    fn gradients(&self, saved: &Saved, grad: &Tensor, of_x: Option<Tensor>) -> Result<Vec<Option<Tensor>>> {
        let dx = match saved.needs[0] {
            true => Some(product_onto(of_x, grad, saved.input(1))?),
            false => None,
        };
        let dw = if saved.needs[1] { Some(matmul(grad, saved.input(0), true, false)?) } else { None };
        let mut grads = vec![dx, dw];
        if self.bias {
            grads.push(if saved.needs[2] { Some(super::add::sum_rows(grad)?) } else { None });
        }
        if self.residual {
            grads.push(saved.needs.last().copied().unwrap_or(false).then(|| grad.clone()));
        }
        Ok(grads)
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (x, w) = (inputs[0], inputs[1]);
        let (rows, out) = (x.dims2("linear")?.0, w.dims2("linear")?.0);
        // The product checks the weight's type: on some adapters it may be another one.
        expect_computed("linear", x, &inputs[2..])?;
        if record && self.output(x) != x.dtype() {
            let detail = format!("a gradient through an output in {}", self.output(x));
            return Err(Error::Unsupported { op: "linear", device: x.device().to_string(), detail });
        }
        let residual = if self.residual { inputs.last().copied() } else { None };
        let bias = self.bias.then(|| inputs[2]);
        if let Some(residual) = residual {
            expect_shape("linear", "the residual", residual, &[rows, out])?;
        }
        if let Some(bias) = bias {
            expect_shape("linear", "the bias", bias, &[out])?;
        }
        let mut y = Tensor::scratch(x.device(), self.output(x), &[rows, out])?;
        matmul::run(x, w, false, true, &mut y, Terms { bias, residual, ..Terms::default() })?;
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        self.gradients(saved, grad, None)
    }

    fn backward_onto(
        &self,
        saved: &Saved,
        grad: &Tensor,
        mut sums: Vec<Option<Tensor>>,
    ) -> Result<Vec<Option<Tensor>>> {
        let of_x = if saved.needs[0] { sums[0].take() } else { None };
        super::add_to(sums, self.gradients(saved, grad, of_x)?)
    }
    fn factors(&self, inputs: &[&Tensor]) -> DType {
        inputs[1].dtype()
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let (x, w) = (inputs[0], inputs[1]);
        let out = w.shape()[0];
        let y_bytes = (x.shape()[0] * out * self.output(x).size()) as u64;
        Cost { flops: 2 * (x.len() * out) as u64, bytes: bytes_of(inputs) + y_bytes }
    }

    fn keeps_input(&self, index: usize, needs: &[bool]) -> bool {
        index < 2 && needs[1 - index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        let (x, w) = (gradcheck::random(&[5, 3], 1), gradcheck::random(&[4, 3], 2));
        let (bias, residual) = (gradcheck::random(&[4], 3), gradcheck::random(&[5, 4], 4));
        gradcheck::op(Linear::default, &[x.clone(), w.clone()]);
        gradcheck::op(|| Linear { bias: true, ..Linear::default() }, &[x.clone(), w.clone(), bias.clone()]);
        gradcheck::op(|| Linear { bias: true, residual: true, giving: None }, &[x, w, bias, residual]);
    }
}
