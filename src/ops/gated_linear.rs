//! The gated half of a feed-forward block in one op: silu(x·Wgᵀ)·(x·Wuᵀ), see [`SwiGlu`]. FLOPs
//! 4·rows·in·out and 5 an element of the output; bytes of x, both weights and the output.

use super::matmul::{self, Terms, matmul, matmul_accumulate};
use super::{Cost, Op, Saved, SwiGlu, bytes_of, expect_shape};
use crate::Result;
use crate::device::cpu::gated_linear::{self as kernel, Weight};
use crate::device::{DType, Device, cuda};
use crate::tensor::Tensor;
use half::bf16;

/// Inputs: x `[rows, in]`, Wg and Wu `[out, in]`; output `[rows, out]` of x's type. Backward computes both products again: where a
/// gradient is wanted, they had better be ops of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct GatedLinear;

/// A weight in host memory of a type that the kernel takes.
fn on_host(w: &Tensor) -> Option<Weight<'_>> {
    match (w.device(), w.dtype()) {
        (Device::Cpu, DType::BF16) => Some(Weight::Bf16(w.host_weight())),
        (Device::Cpu, DType::F32) => Some(Weight::F32(w.host())),
        _ => None,
    }
}

/// Both products.
fn products(x: &Tensor, weights: [&Tensor; 2]) -> Result<[Tensor; 2]> {
    Ok([matmul(x, weights[0], false, true)?, matmul(x, weights[1], false, true)?])
}

impl Op for GatedLinear {
    fn name(&self) -> &'static str {
        "gated_linear"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (x, gate, up) = (inputs[0], inputs[1], inputs[2]);
        expect_shape("gated_linear", "the second weight", up, gate.shape())?;
        let ((rows, k), (n, width)) = (x.dims2("gated_linear")?, gate.dims2("gated_linear")?);
        let takes_x = *x.device() == Device::Cpu
            && (x.dtype() == DType::F32 || (x.dtype(), gate.dtype()) == (DType::BF16, DType::BF16))
            && k == width
            && n > 0;
        if let (true, Some(gate), Some(up)) = (takes_x, on_host(gate), on_host(up)) {
            let mut y = Tensor::scratch(x.device(), x.dtype(), &[rows, n])?;
            let (left, weights) = (matmul::host_left(x), [gate, up]);
            let done = match x.dtype() {
                DType::BF16 => kernel::forward::<bf16>(left, weights, y.host_mut(), [n, k]),
                _ => kernel::forward::<f32>(left, weights, y.host_mut(), [n, k]),
            };
            if done {
                return Ok(y);
            }
        }
        if matmul::takes_gate(gate) && matmul::takes_gate(up) {
            if matches!(x.device(), Device::Cuda(_)) && k == width {
                let mut y = Tensor::scratch(x.device(), x.dtype(), &[rows, n])?;
                let weights = [gate.cuda(), up.cuda()];
                if cuda::matmul_bf16::gated(x.cuda(), weights, y.cuda_mut()?, [rows, n, k])? {
                    return Ok(y);
                }
            }
            let gate = matmul(x, gate, false, true)?;
            let mut y = Tensor::scratch(x.device(), x.dtype(), &[rows, n])?;
            let terms = Terms { gate: Some(&gate), ..Terms::default() };
            matmul::run(x, up, false, true, &mut y, terms)?;
            return Ok(y);
        }
        let [gate, up] = products(x, [gate, up])?;
        SwiGlu.forward(&[&gate, &up], false)?.stored_as(x.dtype())
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, weights) = (saved.input(0), [saved.input(1), saved.input(2)]);
        let kept = products(x, weights)?.map(Some);
        let grads = SwiGlu.backward(&Saved::new(&kept, None, &[true, true]), grad)?;
        let mut grads = grads.into_iter().flatten();
        let (Some(dgate), Some(dup)) = (grads.next(), grads.next()) else {
            unreachable!("both were asked for");
        };
        let dx = if saved.needs[0] {
            let mut dx = matmul(&dgate, weights[0], false, false)?;
            matmul_accumulate(&dup, weights[1], false, false, &mut dx)?;
            Some(dx)
        } else {
            None
        };
        let dweight = |needed: bool, dy: &Tensor| needed.then(|| matmul(dy, x, true, false)).transpose();
        Ok(vec![dx, dweight(saved.needs[1], &dgate)?, dweight(saved.needs[2], &dup)?])
    }

    fn factors(&self, inputs: &[&Tensor]) -> DType {
        inputs[1].dtype()
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let rows = inputs[0].shape().first().copied().unwrap_or(0);
        let elements = rows * inputs[1].shape().first().copied().unwrap_or(0);
        let products = 2 * (inputs[0].len() / rows.max(1) * elements) as u64 * 2;
        let written = (elements * inputs[0].dtype().size()) as u64;
        Cost { flops: products + 5 * elements as u64, bytes: bytes_of(inputs) + written }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        let [x, gate, up] =
            [&[4, 3][..], &[5, 3], &[5, 3]].map(|shape| gradcheck::random(shape, shape[0] as u64));
        gradcheck::op(|| GatedLinear, &[x, gate.clone(), up]);
        gradcheck::op(|| GatedLinear, &[gradcheck::random(&[0, 3], 1), gate.clone(), gate]);
    }

    #[test]
    fn it_has_the_bits_of_two_products_and_their_gate() {
        for (rows, k, n) in [(1, 1, 1), (37, 48, 70), (300, 288, 96), (5, 1301, 33), (13, 2300, 40)] {
            let tensor = |shape: &[usize], seed| {
                let x: Vec<f32> =
                    gradcheck::random(shape, seed).to_f64_vec().unwrap().iter().map(|&x| x as f32).collect();
                Tensor::from_slice(&Device::Cpu, &x, shape).unwrap()
            };
            let (x, gate, up) = (tensor(&[rows, k], 1), tensor(&[n, k], 2), tensor(&[n, k], 3));
            for dtype in [DType::F32, DType::BF16] {
                let stored = |w: &Tensor| match dtype {
                    DType::BF16 => {
                        let halves: Vec<half::bf16> =
                            w.to_vec::<f32>().unwrap().into_iter().map(half::bf16::from_f32).collect();
                        Tensor::from_slice(&Device::Cpu, &halves, w.shape()).unwrap()
                    }
                    _ => w.clone(),
                };
                let (gate, up) = (stored(&gate), stored(&up));
                let found = GatedLinear.forward(&[&x, &gate, &up], false).unwrap();
                let [g, u] = products(&x, [&gate, &up]).unwrap();
                let want = SwiGlu.forward(&[&g, &u], false).unwrap();
                let bits = |t: &Tensor| -> Vec<u32> {
                    t.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
                };
                assert!(bits(&found) == bits(&want), "{rows}x{n}x{k} in {dtype}");
            }
        }
    }

    #[test]
    fn shapes_must_fit() {
        let [x, gate, up] = [&[2, 3][..], &[4, 3], &[5, 3]].map(|shape| gradcheck::random(shape, 1));
        assert!(
            GatedLinear.forward(&[&x, &gate, &up], false).unwrap_err().to_string().contains("second weight")
        );
        assert!(GatedLinear.forward(&[&gate, &x, &x], false).is_ok());
        let wide = gradcheck::random(&[4, 2], 1);
        assert!(GatedLinear.forward(&[&x, &wide, &wide], false).is_err());
    }
}
