//! A linear layer with a low-rank adapter (Hu et al., arXiv 2106.09685): y = x·Wᵀ + scale·x·Aᵀ·Bᵀ (+ bias) (+ residual).
//! FLOPs 2·rows·(in·out + rank·(in + out)); bytes of the inputs and y.

use super::matmul::{self, Terms, expect_computed, matmul, product_onto};
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_shape};
use crate::device::cuda::low_rank as cuda;
use crate::device::cuda::matmul::Matrix;
use crate::device::cuda::matmul_bf16::CHUNK;
use crate::device::{DType, Device, profile};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: x `[rows, in]`, W `[out, in]`, A `[rank, in]`, B `[out, rank]`, then bias `[out]` if `bias`, residual `[rows, out]` if
/// `residual`, and if `apart` what A reads in place of x, `[rows, in]`: x after a dropout.
#[derive(Clone, Debug, Default)]
pub struct AdaptedLinear {
    /// Factor of the adapter's output.
    pub scale: f64,
    /// A bias is among the inputs.
    pub bias: bool,
    /// A residual to add is among the inputs.
    pub residual: bool,
    /// What A reads is among the inputs.
    pub apart: bool,
    /// scale·x·Aᵀ, kept for backward.
    low: Option<Tensor>,
}

const X: usize = 0;
const W: usize = 1;
const A: usize = 2;
const B: usize = 3;

impl AdaptedLinear {
    /// With an adapter's scale, and nothing else.
    pub fn new(scale: f64) -> Self {
        AdaptedLinear { scale, ..AdaptedLinear::default() }
    }

    /// Where what A reads stands among the inputs.
    fn read_by_a(&self) -> usize {
        if self.apart { 4 + usize::from(self.bias) + usize::from(self.residual) } else { X }
    }

    /// Gradients, that of x added to `of_x` where it is there.
    fn gradients(&self, saved: &Saved, grad: &Tensor, of_x: Option<Tensor>) -> Result<Vec<Option<Tensor>>> {
        let needs = |index: usize| saved.needs[index];
        let read = self.read_by_a();
        let mut grads: Vec<Option<Tensor>> = vec![None; saved.needs.len()];
        if needs(B) {
            let Some(low) = &self.low else {
                return Err(Error::shape(self.name(), "backward of a forward call that was not recorded"));
            };
            grads[B] = Some(gradient(low, grad, true)?);
        }
        if needs(W) {
            grads[W] = Some(matmul(grad, saved.input(X), true, false)?);
        }
        let mut of_x = of_x;
        let mut beside = None;
        if needs(A) || needs(read) {
            // The gradient of x is then a product with W too.
            let in_pair = needs(X) && !self.apart && matmul::takes_pair(saved.input(W));
            let other = in_pair.then(|| saved.input(A));
            let low = Low::of(grad, (saved.input(B), false), self.scale, other, true)?;
            if needs(A) {
                grads[A] = Some(gradient(&low.whole, saved.input(read), false)?);
            }
            if needs(read) && low.beside.is_none() {
                let before = if self.apart { None } else { of_x.take() };
                let through_a = product_onto(before, &low.whole, saved.input(A))?;
                *(if self.apart { &mut grads[read] } else { &mut of_x }) = Some(through_a);
            }
            beside = low.beside;
        }
        if needs(X) {
            let w = saved.input(W);
            grads[X] = Some(match &beside {
                Some(beside) => {
                    let terms = Terms { accumulate: of_x.is_some(), ..Terms::default() };
                    let shape = [grad.shape()[0], w.shape()[1]];
                    let mut dx = match of_x {
                        Some(sum) => sum,
                        None => Tensor::scratch(grad.device(), grad.dtype(), &shape)?,
                    };
                    beside.multiply(grad, w, false, &mut dx, terms)?;
                    dx
                }
                None => product_onto(of_x, grad, w)?,
            });
        }
        if self.bias && needs(4) {
            grads[4] = Some(super::add::sum_rows(grad)?);
        }
        let residual = 4 + usize::from(self.bias);
        if self.residual && needs(residual) {
            grads[residual] = Some(grad.clone());
        }
        Ok(grads)
    }

    /// The shapes of everything beside x and W.
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let (name, x) = (self.name(), inputs[X]);
        let ((rows, width), (out, _), (rank, _)) =
            (x.dims2(name)?, inputs[W].dims2(name)?, inputs[A].dims2(name)?);
        // The product checks the weight's type: on some devices it may be another one.
        expect_computed(name, x, &inputs[A..])?;
        expect_alike(name, &[x, inputs[A]])?;
        expect_shape(name, "A", inputs[A], &[rank, width])?;
        expect_shape(name, "B", inputs[B], &[out, rank])?;
        if self.bias {
            expect_shape(name, "the bias", inputs[4], &[out])?;
        }
        if self.residual {
            expect_shape(name, "the residual", inputs[4 + usize::from(self.bias)], &[rows, out])?;
        }
        expect_shape(name, "what A reads", inputs[self.read_by_a()], &[rows, width])
    }
}

/// scale·x·factor `[rows, rank]`, and what the product with W takes beside it.
struct Low {
    whole: Tensor,
    beside: Option<Beside>,
}

/// The adapter's wide product, of low and its other factor, as a pair of factors of the product with W, and x as that multiplies it.
struct Beside {
    pair: [Tensor; 2],
    rounded: Option<Tensor>,
}

impl Low {
    /// Of x `[rows, k]` and factor `[k, rank]`, or stored `transposed`. Where a product with W takes it, `other` is the adapter's
    /// other factor, and `rounds` says that x is what W multiplies.
    fn of(
        x: &Tensor,
        (factor, transposed): (&Tensor, bool),
        scale: f64,
        other: Option<&Tensor>,
        rounds: bool,
    ) -> Result<Self> {
        if !has_thin_products(x, factor) {
            let whole = super::scale::scale(&matmul(x, factor, false, transposed)?, scale)?;
            return Ok(Low { whole, beside: None });
        }
        let (rows, k) = x.dims2("adapted_linear")?;
        let rank = factor.len() / k;
        let _range = profile::op(x.device(), "low_rank", || matmul::cost(rows, rank, k, x.dtype().size()));
        let half = |shape: &[usize]| Tensor::scratch(x.device(), DType::BF16, shape);
        let mut whole = Tensor::scratch(x.device(), DType::F32, &[rows, rank])?;
        let mut beside = None;
        if let Some(other) = other {
            let (n, p) = (other.len() / rank, cuda::pieces(rank));
            let pair = [half(&[rows, p])?, half(&if transposed { [n, p] } else { [p, n] })?];
            let rounded = if rounds && k.is_multiple_of(CHUNK) { Some(half(&[rows, k])?) } else { None };
            beside = Some((Beside { pair, rounded }, other));
        }
        let (pair, rounded) = match &mut beside {
            Some((Beside { pair: [left, right], rounded }, other)) => {
                let pair =
                    cuda::PairOf { left: left.cuda_mut()?, other: other.cuda(), right: right.cuda_mut()? };
                (Some(pair), rounded.as_mut().map(Tensor::cuda_mut).transpose()?)
            }
            None => (None, None),
        };
        let to = cuda::Projected { low: whole.cuda_mut()?, pair, rounded };
        let factor = Matrix { data: factor.cuda(), transposed };
        cuda::project(x.cuda(), factor, scale as f32, to, [rows, k, rank])?;
        Ok(Low { whole, beside: beside.map(|(beside, _)| beside) })
    }
}

impl Beside {
    /// c = x·W plus the adapter's and the terms, W stored `transposed` or not.
    fn multiply(&self, x: &Tensor, w: &Tensor, transposed: bool, c: &mut Tensor, terms: Terms) -> Result<()> {
        let [left, right] = &self.pair;
        let terms = Terms { pair: Some([left, right]), ..terms };
        matmul::run(self.rounded.as_ref().unwrap_or(x), w, false, transposed, c, terms)
    }
}

/// Whether the device has kernels of its own for products of x with the thin factors of an adapter.
fn has_thin_products(x: &Tensor, thin: &Tensor) -> bool {
    matches!(x.device(), Device::Cuda(_)) && x.dtype() == DType::F32 && !x.is_empty() && !thin.is_empty()
}

/// lowᵀ·x `[rank, w]` of low `[rows, rank]` and x `[rows, w]`, or `transposed` xᵀ·low.
fn gradient(low: &Tensor, x: &Tensor, transposed: bool) -> Result<Tensor> {
    if !has_thin_products(x, low) || low.shape()[1] > cuda::MOST_OF_GRADIENT {
        return if transposed { matmul(x, low, true, false) } else { matmul(low, x, true, false) };
    }
    let ((rows, w), (_, rank)) = (x.dims2("adapted_linear")?, low.dims2("adapted_linear")?);
    let _range = profile::op(x.device(), "low_rank", || matmul::cost(rank, w, rows, x.dtype().size()));
    let shape = if transposed { [w, rank] } else { [rank, w] };
    let mut sum = Tensor::scratch(x.device(), DType::F32, &shape)?;
    cuda::gradient(low.cuda(), x.cuda(), sum.cuda_mut()?, transposed, [rows, w, rank])?;
    Ok(sum)
}

impl Op for AdaptedLinear {
    fn name(&self) -> &'static str {
        "adapted_linear"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        self.check(inputs)?;
        let (x, w, b) = (inputs[X], inputs[W], inputs[B]);
        let other = matmul::takes_pair(w).then_some(b);
        let low = Low::of(inputs[self.read_by_a()], (inputs[A], true), self.scale, other, !self.apart)?;
        let shape = [x.shape()[0], w.shape()[0]];
        let bias = self.bias.then(|| inputs[4]);
        let residual = self.residual.then(|| inputs[4 + usize::from(self.bias)]);
        let mut y = Tensor::scratch(x.device(), x.dtype(), &shape)?;
        let terms = Terms { bias, residual, ..Terms::default() };
        if let Some(beside) = &low.beside {
            beside.multiply(x, w, true, &mut y, terms)?;
        } else {
            let mut without = Tensor::scratch(x.device(), x.dtype(), &shape)?;
            matmul::run(x, w, false, true, &mut without, terms)?;
            let added = Terms { residual: Some(&without), ..Terms::default() };
            matmul::run(&low.whole, b, false, true, &mut y, added)?;
        }
        self.low = record.then_some(low.whole);
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
        let of_x = if saved.needs[X] { sums[X].take() } else { None };
        super::add_to(sums, self.gradients(saved, grad, of_x)?)
    }

    fn factors(&self, inputs: &[&Tensor]) -> DType {
        inputs[W].dtype()
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let (rows, out) = (inputs[X].shape()[0], inputs[W].shape()[0]);
        let products = inputs[X].len() * out + rows * (inputs[A].len() + inputs[B].len());
        Cost {
            flops: 2 * products as u64,
            bytes: bytes_of(inputs) + (rows * out * inputs[X].dtype().size()) as u64,
        }
    }

    fn keeps_input(&self, index: usize, needs: &[bool]) -> bool {
        let read = self.read_by_a();
        match index {
            X if !self.apart => needs[W] || needs[A],
            X => needs[W],
            W => needs[X],
            A => needs[read],
            B => needs[read] || needs[A],
            _ => index == read && needs[A],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matmul::matmul_accumulate;
    use super::*;
    use crate::autograd::gradcheck;

    fn inputs() -> [Tensor; 7] {
        let shapes = [&[5, 3][..], &[4, 3], &[2, 3], &[4, 2], &[4], &[5, 4], &[5, 3]];
        let mut seed = 0;
        shapes.map(|shape| {
            seed += 1;
            gradcheck::random(shape, seed)
        })
    }

    #[test]
    fn gradients_match_finite_differences() {
        let [x, w, a, b, bias, residual, apart] = inputs();
        let base = [x, w, a, b];
        let plain = || AdaptedLinear::new(0.75);
        gradcheck::op(plain, &base);
        let with = |more: &[Tensor]| [&base, more].concat();
        gradcheck::op(|| AdaptedLinear { bias: true, ..plain() }, &with(std::slice::from_ref(&bias)));
        gradcheck::op(|| AdaptedLinear { residual: true, ..plain() }, &with(std::slice::from_ref(&residual)));
        gradcheck::op(|| AdaptedLinear { apart: true, ..plain() }, &with(std::slice::from_ref(&apart)));
        let all = || AdaptedLinear { bias: true, residual: true, apart: true, ..plain() };
        gradcheck::op(all, &with(&[bias, residual, apart]));
    }

    #[test]
    fn it_is_the_layer_with_the_product_of_both_factors_in_its_weight() {
        let [x, w, a, b, bias, residual, _] = inputs();
        let mut op = AdaptedLinear { bias: true, residual: true, ..AdaptedLinear::new(0.75) };
        let found = op.forward(&[&x, &w, &a, &b, &bias, &residual], false).unwrap();
        let mut merged = w;
        let b = super::super::scale::scale(&b, 0.75).unwrap();
        matmul_accumulate(&b, &a, false, false, &mut merged).unwrap();
        let mut linear = super::super::Linear { bias: true, residual: true, giving: None };
        let want = linear.forward(&[&x, &merged, &bias, &residual], false).unwrap();
        let pairs = found.to_f64_vec().unwrap().into_iter().zip(want.to_f64_vec().unwrap());
        assert!(pairs.into_iter().all(|(found, want)| (found - want).abs() < 1e-12));
    }

    #[test]
    fn gradients_are_added_to_what_is_there() {
        let [x, w, a, b, bias, residual, apart] = inputs();
        let all = [x, w, a, b, bias, residual, apart];
        let values = |grad: &Option<Tensor>| grad.as_ref().map(|grad| grad.to_f64_vec().unwrap());
        for count in [6, 7] {
            let mut op = AdaptedLinear::new(0.75);
            (op.bias, op.residual, op.apart) = (true, true, count == 7);
            let inputs: Vec<&Tensor> = all[..count].iter().collect();
            let grad = op.forward(&inputs, true).unwrap();
            let (kept, needs) =
                (all[..count].iter().cloned().map(Some).collect::<Vec<_>>(), vec![true; count]);
            let saved = Saved::new(&kept, None, &needs);
            let alone = op.backward(&saved, &grad).unwrap();
            for sent in [vec![0], vec![1, 3, 5], (0..count).collect()] {
                let sums = (0..count).map(|i| sent.contains(&i).then(|| all[i].clone())).collect();
                let found = op.backward_onto(&saved, &grad, sums).unwrap();
                for i in 0..count {
                    let (found, alone) = (values(&found[i]).unwrap(), values(&alone[i]).unwrap());
                    let before = all[i].to_f64_vec().unwrap();
                    for ((found, alone), before) in found.iter().zip(alone).zip(before) {
                        let want = alone + if sent.contains(&i) { before } else { 0.0 };
                        assert!((found - want).abs() < 1e-12, "input {i} of {count}: {found}, not {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_must_fit_and_messages_name_what_does_not() {
        let [x, w, a, b, bias, residual, _] = inputs();
        let mut op = AdaptedLinear { bias: true, residual: true, ..AdaptedLinear::new(1.0) };
        let mut message = |inputs: [&Tensor; 6]| op.forward(&inputs, false).unwrap_err().to_string();
        assert!(message([&x, &w, &b, &b, &bias, &residual]).contains("A has shape [4, 2], expected [4, 3]"));
        assert!(message([&x, &w, &a, &a, &bias, &residual]).contains("B has shape [2, 3], expected [4, 2]"));
        assert!(message([&x, &w, &a, &b, &residual, &residual]).contains("the bias has shape [5, 4]"));
        assert!(message([&x, &w, &a, &b, &bias, &x]).contains("the residual has shape [5, 3]"));
    }
}
