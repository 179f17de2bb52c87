//! C = op(A)·op(B) with op the identity or the transpose. FLOPs 2·m·n·k; bytes of A, B and C.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, float_type};
use crate::device::{DType, Device, Element, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};
use half::bf16;

/// `[m, k]·[k, n] → [m, n]`; with a flag set, that input is stored transposed. B may be a frozen weight in the
/// type that its device stores them in, f16 or bf16; on CUDA and the CPU A beside bf16 may be in it too, to which it is rounded anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matmul {
    /// A is stored as `[k, m]`.
    pub transpose_a: bool,
    /// B is stored as `[n, k]`.
    pub transpose_b: bool,
}

/// Product of two matrices, see [`Matmul`]; without autograd.
pub fn matmul(a: &Tensor, b: &Tensor, transpose_a: bool, transpose_b: bool) -> Result<Tensor> {
    let (m, n, _) = dims(a, b, transpose_a, transpose_b)?;
    let mut c = Tensor::scratch(a.device(), a.dtype().computed(), &[m, n])?;
    run(a, b, transpose_a, transpose_b, &mut c, Terms::default())?;
    Ok(c)
}

/// c += op(a)·op(b).
pub fn matmul_accumulate(
    a: &Tensor,
    b: &Tensor,
    transpose_a: bool,
    transpose_b: bool,
    c: &mut Tensor,
) -> Result<()> {
    let (m, n, _) = dims(a, b, transpose_a, transpose_b)?;
    super::expect_shape("matmul", "the accumulator", c, &[m, n])?;
    expect_computed("matmul", a, &[c])?;
    run(a, b, transpose_a, transpose_b, c, Terms { accumulate: true, ..Terms::default() })
}

/// a·b, added to `sum` where it is there.
pub(super) fn product_onto(sum: Option<Tensor>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match sum {
        Some(mut sum) => matmul_accumulate(a, b, false, false, &mut sum).map(|()| sum),
        None => matmul(a, b, false, false),
    }
}

/// What is done with a product.
#[derive(Clone, Copy, Default)]
pub(super) struct Terms<'a> {
    /// What the output holds.
    pub accumulate: bool,
    /// A row, added to all rows.
    pub bias: Option<&'a Tensor>,
    /// A matrix like the output.
    pub residual: Option<&'a Tensor>,
    /// The gate of a SwiGLU, of which the product is the other half. See [`takes_gate`].
    pub gate: Option<&'a Tensor>,
    /// Factors `[m, p]` and, stored as the product's own second one, `[p, n]` in bf16, whose product is added. See [`takes_pair`].
    pub pair: Option<[&'a Tensor; 2]>,
}

impl<'a> Terms<'a> {
    /// The same in host memory.
    fn host<T: Element>(&self) -> cpu::matmul::Terms<'a, T> {
        cpu::matmul::Terms {
            residual: self.residual.map(Tensor::host),
            bias: self.bias.map(Tensor::host),
            accumulate: self.accumulate,
        }
    }
}

/// Whether a product with b takes a gate ([`Terms::gate`]).
pub(super) fn takes_gate(b: &Tensor) -> bool {
    matches!(b.device(), Device::WebGpu(_)) || matches!(b.device(), Device::Cuda(_)) && gives_bf16(b)
}

/// Whether a product with b takes a second pair of factors ([`Terms::pair`]).
pub(super) fn takes_pair(b: &Tensor) -> bool {
    matches!(b.device(), Device::Cuda(_)) && b.dtype() == DType::BF16
}

/// Whether a product with b gives bf16 where its output is so.
fn gives_bf16(b: &Tensor) -> bool {
    !matches!(b.device(), Device::WebGpu(_)) && b.dtype() == DType::BF16
}

/// c = op(a)·op(b) and the terms, whose shapes have been checked.
pub(super) fn run(
    a: &Tensor,
    b: &Tensor,
    transpose_a: bool,
    transpose_b: bool,
    c: &mut Tensor,
    terms: Terms,
) -> Result<()> {
    let (m, n, k) = dims(a, b, transpose_a, transpose_b)?;
    let (flops, bytes) = (2 * (m * n * k) as u64, bytes_of(&[a, b, c]));
    let factors = factors(b, transpose_a, transpose_b);
    let _range = profile::products(a.device(), "matmul", || (Cost { flops, bytes }, factors));
    if terms.pair.is_some() && !takes_pair(b) {
        let detail = format!("a second pair of factors beside {}", b.dtype());
        return Err(Error::Unsupported { op: "matmul", device: a.device().to_string(), detail });
    }
    if terms.gate.is_some() && !takes_gate(b) || c.dtype() == DType::BF16 && !gives_bf16(b) {
        let detail = format!("a gate, or an output in {}, of a product with {}", c.dtype(), b.dtype());
        return Err(Error::Unsupported { op: "matmul", device: a.device().to_string(), detail });
    }
    match a.device() {
        Device::Cuda(_) => {
            use cuda::matmul::{Epilogue, Matrix, Pair};
            let [bias, residual, gate] =
                [terms.bias, terms.residual, terms.gate].map(|term| term.map(Tensor::cuda));
            let pair = terms.pair.map(|[left, right]| Pair {
                a: left.cuda(),
                b: right.cuda(),
                depth: left.shape().last().copied().unwrap_or(0),
            });
            let epilogue = Epilogue { accumulate: terms.accumulate, bias, residual, gate, pair };
            let left = Matrix { data: a.cuda(), transposed: transpose_a };
            let right = Matrix { data: b.cuda(), transposed: transpose_b };
            if b.dtype() != DType::BF16 {
                expect_float("matmul", a)?;
                return cuda::matmul::matmul(left, right, c.cuda_mut()?, [m, n, k], epilogue);
            }
            if transpose_a {
                let detail = "a transposed factor beside one in bf16".into();
                return Err(Error::Unsupported { op: "matmul", device: a.device().to_string(), detail });
            }
            cuda::matmul_bf16::matmul(left.data, right, c.cuda_mut()?, [m, n, k], epilogue)
        }
        Device::WebGpu(_) => {
            use webgpu::matmul::{Epilogue, Matrix};
            expect_float("matmul", a)?;
            let bias = terms.bias.map(Tensor::gpu).transpose()?;
            let residual = terms.residual.map(Tensor::gpu).transpose()?;
            let gate = terms.gate.map(Tensor::gpu).transpose()?;
            let epilogue = Epilogue {
                accumulate: terms.accumulate,
                bias: bias.as_ref().map(|x| x.view()),
                residual: residual.as_ref().map(|x| x.view()),
                gate: gate.as_ref().map(|x| x.view()),
            };
            let (a, b) = (a.gpu()?, b.gpu()?);
            let left = Matrix { data: a.view(), transposed: transpose_a };
            let right = Matrix { data: b.view(), transposed: transpose_b };
            webgpu::matmul::matmul(left, right, c.gpu_mut()?, [m, n, k], epilogue)
        }
        Device::Cpu if b.dtype() == DType::BF16 => {
            if factors == DType::F32 {
                expect_float("matmul", a)?;
                return run(a, &b.widened()?, transpose_a, transpose_b, c, terms);
            }
            use cpu::matmul_bf16::matmul;
            let (left, weight) = (host_left(a), b.host_weight());
            match c.dtype() {
                DType::BF16 => matmul::<bf16>(left, weight, c.host_mut(), [n, k], terms.host()),
                _ => matmul::<f32>(left, weight, c.host_mut(), [n, k], terms.host()),
            }
            Ok(())
        }
        Device::Cpu => float_type!("matmul", a, T => {
            use cpu::matmul::Matrix;
            let side = |data, rows, columns, transposed| Matrix::<T> { data, rows, columns, transposed };
            let left = side(a.host(), m, k, transpose_a);
            let right = side(b.host(), k, n, transpose_b);
            cpu::matmul::matmul_with(left, right, c.host_mut::<T>(), terms.host());
            Ok(())
        }),
    }
}

/// A left factor in host memory, f32 or bf16.
pub(super) fn host_left(a: &Tensor) -> cpu::matmul_bf16::Left<'_> {
    match a.dtype() {
        DType::BF16 => cpu::matmul_bf16::Left::Bf16(a.host()),
        _ => cpu::matmul_bf16::Left::F32(a.host()),
    }
}

/// The type in which b is multiplied: the CPU widens a bf16 one that does not come as rows of a product's columns.
fn factors(b: &Tensor, transpose_a: bool, transpose_b: bool) -> DType {
    match (b.device(), b.dtype()) {
        (Device::Cpu, DType::BF16) if transpose_a || !transpose_b => DType::F32,
        (_, dtype) => dtype,
    }
}

/// Whether b is a frozen factor in 16 bits that the device multiplies with an a of that type.
fn is_stored_half(a: &Tensor, b: &Tensor) -> bool {
    let types = (a.dtype(), b.dtype());
    let taken = match a.device() {
        Device::WebGpu(_) => types == (DType::F32, DType::F16),
        Device::Cpu | Device::Cuda(_) => matches!(types, (DType::F32 | DType::BF16, DType::BF16)),
    };
    a.device() == b.device() && taken
}

/// An error unless the tensors have the type that x is computed in, and its device.
pub(super) fn expect_computed(op: &'static str, x: &Tensor, others: &[&Tensor]) -> Result<()> {
    for other in others {
        if other.dtype() != x.dtype().computed() || other.device() != x.device() {
            let problem = format!("{other:?} beside {x:?}: expected {} on its device", x.dtype().computed());
            return Err(Error::shape(op, problem));
        }
    }
    Ok(())
}

/// (m, n, k), checked.
fn dims(a: &Tensor, b: &Tensor, transpose_a: bool, transpose_b: bool) -> Result<(usize, usize, usize)> {
    if !is_stored_half(a, b) {
        expect_alike("matmul", &[a, b])?;
    }
    let (mut m, mut k) = a.dims2("matmul")?;
    let (mut kb, mut n) = b.dims2("matmul")?;
    if transpose_a {
        (m, k) = (k, m);
    }
    if transpose_b {
        (kb, n) = (n, kb);
    }
    if k != kb {
        let problem =
            format!("inner extents {k} and {kb} differ, shapes {:?} and {:?}", a.shape(), b.shape());
        return Err(Error::shape("matmul", problem));
    }
    Ok((m, n, k))
}

/// Work of an m×n×k product of `element` bytes each.
pub fn cost(m: usize, n: usize, k: usize, element: usize) -> Cost {
    Cost { flops: 2 * (m * n * k) as u64, bytes: ((m * k + k * n + m * n) * element) as u64 }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        matmul(inputs[0], inputs[1], self.transpose_a, self.transpose_b)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (ta, tb) = (self.transpose_a, self.transpose_b);
        let da = if !saved.needs[0] {
            None
        } else if ta {
            Some(matmul(saved.input(1), grad, tb, true)?)
        } else {
            Some(matmul(grad, saved.input(1), false, !tb)?)
        };
        let db = if !saved.needs[1] {
            None
        } else if tb {
            Some(matmul(grad, saved.input(0), true, ta)?)
        } else {
            Some(matmul(saved.input(0), grad, !ta, false)?)
        };
        Ok(vec![da, db])
    }

    fn factors(&self, inputs: &[&Tensor]) -> DType {
        factors(inputs[1], self.transpose_a, self.transpose_b)
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let Ok((m, n, k)) = dims(inputs[0], inputs[1], self.transpose_a, self.transpose_b) else {
            return Cost { flops: 0, bytes: bytes_of(inputs) };
        };
        cost(m, n, k, inputs[0].dtype().size())
    }

    fn keeps_input(&self, index: usize, needs: &[bool]) -> bool {
        needs[1 - index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = gradcheck::random(if ta { &[4, 3] } else { &[3, 4] }, 1);
            let b = gradcheck::random(if tb { &[5, 4] } else { &[4, 5] }, 2);
            gradcheck::op(|| Matmul { transpose_a: ta, transpose_b: tb }, &[a, b]);
        }
    }

    #[test]
    fn inner_extents_must_agree() {
        let (a, b) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[2, 3], 2));
        assert!(matmul(&a, &b, false, false).unwrap_err().to_string().contains("inner extents 3 and 2"));
    }
}
