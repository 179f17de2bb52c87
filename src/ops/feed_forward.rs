//! A feed-forward block in one op: x + down(silu(n·Wgᵀ)·(n·Wuᵀ)) with n the root-mean-square norm of x. FLOPs 4 an element of x,
//! 6·rows·d·f, and 5·rows·f; bytes of x, the weights and the output.

use super::{Cost, Op, Saved, bytes_of, expect_shape};
use crate::device::cpu::feed_forward as kernel;
use crate::device::{DType, Device};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: x `[rows, d]` in f32, the norm's weight `[d]`, gate and up `[f, d]`, down `[d, f]`; output like x. Forward alone, where it
/// [is taken](FeedForward::takes).
#[derive(Clone, Copy, Debug)]
pub struct FeedForward {
    eps: f64,
}

impl FeedForward {
    /// With `eps` added to the norm's mean square.
    pub fn new(eps: f64) -> Self {
        FeedForward { eps }
    }

    /// Whether the device has it for these inputs, with the bits of a norm that gives bf16, [`GatedLinear`](super::GatedLinear) and
    /// [`Linear`](super::Linear): on a CPU that multiplies bf16, beside weights in it.
    pub fn takes(inputs: [&Tensor; 5]) -> bool {
        let [x, norm, weights @ ..] = inputs;
        let widths =
            (x.shape().last().copied().unwrap_or(0), weights[0].shape().first().copied().unwrap_or(0));
        *x.device() == Device::Cpu
            && [x, norm].iter().all(|t| t.dtype() == DType::F32)
            && weights.iter().all(|w| w.dtype() == DType::BF16)
            && kernel::is_there(widths.0, widths.1)
    }
}

impl Op for FeedForward {
    fn name(&self) -> &'static str {
        "feed_forward"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let [x, norm, gate, up, down] = [inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]];
        let ((rows, d), (f, _)) = (x.dims2("feed_forward")?, gate.dims2("feed_forward")?);
        expect_shape("feed_forward", "the norm's weight", norm, &[d])?;
        for (name, weight, shape) in [("gate", gate, [f, d]), ("up", up, [f, d]), ("down", down, [d, f])] {
            expect_shape("feed_forward", name, weight, &shape)?;
        }
        if record || !Self::takes([x, norm, gate, up, down]) {
            let detail = format!("{} beside weights in {}, recorded: {record}", x.dtype(), gate.dtype());
            return Err(Error::Unsupported { op: "feed_forward", device: x.device().to_string(), detail });
        }
        let mut y = Tensor::scratch(x.device(), x.dtype(), &[rows, d])?;
        let of = kernel::Weights {
            norm: norm.host(),
            eps: self.eps as f32,
            gate: [gate.host_weight(), up.host_weight()],
            down: down.host_weight(),
        };
        kernel::forward(x.host(), of, y.host_mut(), f);
        Ok(y)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let detail = "a gradient: take the norm, the gated product and the product by themselves".into();
        Err(Error::Unsupported { op: "feed_forward", device: grad.device().to_string(), detail })
    }

    fn factors(&self, inputs: &[&Tensor]) -> DType {
        inputs[2].dtype()
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let (x, gate) = (inputs[0].len() as u64, inputs[2]);
        let f = gate.shape().first().copied().unwrap_or(0) as u64;
        let rows = inputs[0].shape().first().copied().unwrap_or(0) as u64;
        Cost { flops: 4 * x + 6 * x * f + 5 * rows * f, bytes: bytes_of(inputs) + bytes_of(&inputs[..1]) }
    }
}
