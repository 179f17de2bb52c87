//! What attention reads in one op: queries, keys and values of the root-mean-square norm of x, queries and keys rotated. No gradient.
//! FLOPs 4 an element of x, 2·d and (rotated) 3 an element of the outputs; bytes of x, the weights and the outputs.

use super::rope::RopeTable;
use super::{Cost, bytes_of, expect_alike, expect_ids, expect_shape};
use crate::device::cpu::attention_inputs as kernel;
use crate::device::cpu::matmul_bf16::has_instructions;
use crate::device::{DType, Device, profile};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Rows and what they go through.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs<'a> {
    /// `[rows, d]`, f32.
    pub x: &'a Tensor,
    /// Weight of the norm `[d]`, f32.
    pub norm: &'a Tensor,
    /// Added to the norm's mean square.
    pub eps: f64,
    /// Weights `[width, d]` in bf16, and biases `[width]` in f32, of queries, keys and values; the first two of whole heads.
    pub projections: [(&'a Tensor, Option<&'a Tensor>); 3],
    /// `[rows]`, u32.
    pub positions: &'a Tensor,
    /// Angles of the positions.
    pub rope: &'a RopeTable,
}

impl AttentionInputs<'_> {
    /// Whether the device has it for these, with the bits of a norm, [`Linear`](super::Linear) and [`Rope`](super::Rope) that give
    /// bf16: on a CPU that multiplies bf16, beside weights in it.
    pub fn are_taken(&self) -> bool {
        *self.x.device() == Device::Cpu
            && [self.x, self.norm].iter().all(|t| t.dtype() == DType::F32)
            && self.projections.iter().all(|(weight, _)| weight.dtype() == DType::BF16)
            && has_instructions()
    }

    /// Queries, keys and values in bf16, `[rows, width]` each.
    pub fn run(&self) -> Result<[Tensor; 3]> {
        let (x, name) = (self.x, "attention_inputs");
        if !self.are_taken() {
            let detail = format!("{} beside weights in {}", x.dtype(), self.projections[0].0.dtype());
            return Err(Error::Unsupported { op: name, device: x.device().to_string(), detail });
        }
        let (rows, d) = x.dims2(name)?;
        expect_shape(name, "the norm's weight", self.norm, &[d])?;
        expect_shape(name, "the positions", self.positions, &[rows])?;
        expect_ids(name, self.positions, x, super::rope::MAX_POSITIONS)?;
        let _range =
            profile::products(x.device(), name, || (self.cost(rows, d), self.projections[0].0.dtype()));
        let mut to = Vec::with_capacity(3);
        for (i, (weight, bias)) in self.projections.into_iter().enumerate() {
            let (width, _) = weight.dims2(name)?;
            expect_shape(name, "a weight", weight, &[width, d])?;
            if let Some(bias) = bias {
                expect_alike(name, &[x, bias])?;
                expect_shape(name, "a bias", bias, &[width])?;
            }
            if i < 2 && !width.is_multiple_of(self.rope.head_dim()) {
                let problem = format!("{width} columns are no whole heads of {}", self.rope.head_dim());
                return Err(Error::shape(name, problem));
            }
            to.push(Tensor::scratch(x.device(), DType::BF16, &[rows, width])?);
        }
        let largest = self.positions.host::<u32>().iter().max().map_or(0, |&p| p as usize);
        let (cos, sin) = self.rope.cos_and_sin(x.device(), x.dtype(), largest + 1)?;
        let half = self.rope.head_dim() / 2;
        let of = kernel::Of {
            norm: self.norm.host(),
            eps: self.eps as f32,
            projections: self.projections.map(|(weight, bias)| kernel::Projection {
                weight: weight.host_weight(),
                bias: bias.map(Tensor::host),
                width: weight.shape()[0],
            }),
            positions: self.positions.host(),
            angles: crate::device::cpu::rope::Angles { cos: cos.host(), sin: sin.host(), half, back: false },
        };
        let mut all = to.iter_mut().map(Tensor::host_mut);
        if let (Some(q), Some(k), Some(v)) = (all.next(), all.next(), all.next()) {
            kernel::forward(x.host(), of, [q, k, v]);
        }
        drop(all);
        to.try_into().map_err(|_| Error::shape(name, "three projections give three outputs"))
    }

    fn cost(&self, rows: usize, d: usize) -> Cost {
        let widths = self.projections.map(|(weight, _)| weight.shape().first().copied().unwrap_or(0));
        let weights = self.projections.map(|(weight, _)| weight);
        let products = 2 * rows * d * widths.iter().sum::<usize>();
        let flops = (4 * rows * d + products + 3 * rows * (widths[0] + widths[1])) as u64;
        let written = (rows * widths.iter().sum::<usize>() * DType::BF16.size()) as u64;
        Cost { flops, bytes: bytes_of(&[self.x, self.norm, self.positions]) + bytes_of(&weights) + written }
    }
}
