//! Rotary position embedding (Su et al., arXiv 2104.09864), in the half-split layout of Hugging Face weights: the
//! pair (xᵢ, xᵢ₊ₕ), h = head_dim/2, turns by position · frequencyᵢ. 3 FLOPs an element; bytes of x and y.

use super::{Cost, Op, Saved, bytes_of, expect_ids, expect_output, float_type};
use crate::device::{DType, Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};
use half::bf16;
use std::sync::{Arc, Mutex};

/// Positions beyond this are an error: no decoder has such a context, and the table would fill the memory.
pub(super) const MAX_POSITIONS: usize = 1 << 22;

/// Angles per position, and the cosines and sines of those positions met so far.
#[derive(Debug)]
pub struct RopeTable {
    inverse_frequencies: Vec<f64>,
    scale: f64,
    cache: Mutex<Vec<CosSin>>,
}

/// Cosines and sines `[positions, head_dim / 2]` in one type on one device.
#[derive(Clone, Debug)]
struct CosSin {
    cos: Tensor,
    sin: Tensor,
}

impl RopeTable {
    /// `inverse_frequencies[i]`, i < head_dim/2, is the angle in radians of pair i per position; cosine and sine
    /// are multiplied by `scale` (1, or the attention factor of YaRN).
    pub fn new(inverse_frequencies: Vec<f64>, scale: f64) -> Self {
        RopeTable { inverse_frequencies, scale, cache: Mutex::new(Vec::new()) }
    }

    /// The plain table: frequency i is theta^(−2i/head_dim), scale 1. An odd `head_dim` is an error.
    pub fn plain(theta: f64, head_dim: usize) -> Result<Self> {
        if head_dim == 0 || head_dim % 2 == 1 {
            let problem = format!("head_dim {head_dim} is not a positive even number");
            return Err(Error::shape("rope", problem));
        }
        let frequency = |i| theta.powf(-2.0 * f64::from(i) / head_dim as f64);
        Ok(Self::new((0..head_dim as u32 / 2).map(frequency).collect(), 1.0))
    }

    /// Width of a head: two elements a frequency.
    pub fn head_dim(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// Cosines and sines `[positions or more, head_dim / 2]`.
    pub(super) fn cos_and_sin(
        &self,
        device: &Device,
        dtype: DType,
        positions: usize,
    ) -> Result<(Tensor, Tensor)> {
        let CosSin { cos, sin } = self.cos_sin(device, dtype, positions)?;
        Ok((cos, sin))
    }

    /// Cosines and sines of at least `positions` positions.
    fn cos_sin(&self, device: &Device, dtype: DType, positions: usize) -> Result<CosSin> {
        let mut cache = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fits = |t: &CosSin| t.cos.dtype() == dtype && t.cos.device() == device;
        if let Some(found) = cache.iter().find(|t| fits(t) && t.cos.shape()[0] >= positions) {
            return Ok(found.clone());
        }
        let rows = positions.next_power_of_two().max(64);
        let angle = |position: usize| self.inverse_frequencies.iter().map(move |f| position as f64 * f);
        let table = |f: fn(f64) -> f64| {
            let data: Vec<f64> = (0..rows).flat_map(angle).map(|a| f(a) * self.scale).collect();
            Tensor::from_f64(device, dtype, &data, &[rows, self.inverse_frequencies.len()])
        };
        let made = CosSin { cos: table(f64::cos)?, sin: table(f64::sin)? };
        cache.retain(|t| !fits(t));
        cache.push(made.clone());
        Ok(made)
    }
}

/// Input: x `[rows, heads · head_dim]`; output of that shape.
#[derive(Clone, Debug)]
pub struct Rope {
    positions: Tensor,
    table: Arc<RopeTable>,
    heads: usize,
    giving: Option<DType>,
}

impl Rope {
    /// `positions: [rows]` u32; `heads` of `table.head_dim()` elements stand in a row.
    pub fn new(positions: Tensor, table: Arc<RopeTable>, heads: usize) -> Self {
        Rope { positions, table, heads, giving: None }
    }

    /// Its output is in that type: that of x, or on CUDA and the CPU bf16, rounded to nearest and without backward.
    pub fn giving(self, dtype: DType) -> Self {
        Rope { giving: Some(dtype), ..self }
    }

    fn rotate(&self, x: &Tensor, back: bool, giving: DType) -> Result<Tensor> {
        let rows = self.positions.dims1("rope")?;
        expect_ids("rope", &self.positions, x, MAX_POSITIONS)?;
        super::expect_shape("rope", "x", x, &[rows, self.heads * self.table.head_dim()])?;
        let mut y = Tensor::scratch(x.device(), giving, x.shape())?;
        let half = self.table.head_dim() / 2;
        match x.device() {
            Device::Cuda(_) => {
                let known = self.bound()?;
                let CosSin { cos, sin } = self.table.cos_sin(x.device(), x.dtype(), known)?;
                let (x, positions, cos, sin) = (x.cuda(), self.positions.cuda(), cos.cuda(), sin.cuda());
                let angles = cuda::rope::Angles { cos, sin, half, back };
                cuda::rope::rotate(x, positions, angles, y.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                let known = self.bound()?;
                let CosSin { cos, sin } = self.table.cos_sin(x.device(), x.dtype(), known)?;
                let (x, positions, cos, sin) = (x.gpu()?, self.positions.gpu()?, cos.gpu()?, sin.gpu()?);
                let angles = webgpu::rope::Angles { cos: cos.view(), sin: sin.view(), half, back };
                webgpu::rope::rotate(x.view(), positions.view(), angles, y.gpu_mut()?)?;
            }
            Device::Cpu if giving == DType::BF16 => {
                let (positions, largest) = self.host_positions();
                let CosSin { cos, sin } = self.table.cos_sin(x.device(), x.dtype(), largest + 1)?;
                let angles = cpu::rope::Angles::<f32> { cos: cos.host(), sin: sin.host(), half, back };
                cpu::rope::rotate(x.host(), positions, angles, y.host_mut::<bf16>());
            }
            Device::Cpu => float_type!("rope", x, T => {
                let (positions, largest) = self.host_positions();
                let CosSin { cos, sin } = self.table.cos_sin(x.device(), x.dtype(), largest + 1)?;
                let angles = cpu::rope::Angles::<T> { cos: cos.host(), sin: sin.host(), half, back };
                cpu::rope::rotate(x.host(), positions, angles, y.host_mut::<T>());
                Ok(())
            })?,
        }
        Ok(y)
    }
}

impl Rope {
    /// Positions in host memory, and the largest.
    fn host_positions(&self) -> (&[u32], usize) {
        let positions = self.positions.host::<u32>();
        (positions, positions.iter().max().map_or(0, |&p| p as usize))
    }

    /// What all positions on another device than the host are below. A missing id of a search has no angle.
    fn bound(&self) -> Result<usize> {
        let known = self.positions.strict_id_bound()? as usize;
        if known > MAX_POSITIONS {
            let problem = "a position is missing: the search that made it found none";
            return Err(Error::shape("rope", problem));
        }
        Ok(known)
    }
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let giving = self.giving.unwrap_or(inputs[0].dtype());
        expect_output("rope", inputs[0], giving, record)?;
        self.rotate(inputs[0], false, giving)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.rotate(grad, true, grad.dtype())?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let len = inputs[0].len() as u64;
        let written = self.giving.unwrap_or(inputs[0].dtype()).size() as u64;
        Cost { flops: 3 * len, bytes: bytes_of(inputs) + len * written }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        self.cost(&[grad])
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::ops::matmul::matmul;

    fn rope(positions: &[u32], heads: usize, head_dim: usize) -> Rope {
        let positions = Tensor::from_ids(&Device::Cpu, positions).unwrap();
        Rope::new(positions, Arc::new(RopeTable::plain(10_000.0, head_dim).unwrap()), heads)
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (positions, heads, head_dim) in [(&[7][..], 1, 2), (&[0, 3, 3, 90], 3, 6), (&[], 2, 4)] {
            let x = gradcheck::random(&[positions.len(), heads * head_dim], 1);
            gradcheck::op(|| rope(positions, heads, head_dim), std::slice::from_ref(&x));
        }
        let table = Arc::new(RopeTable::new(vec![0.3, 0.01], 1.7));
        let positions = Tensor::from_ids(&Device::Cpu, &[5, 2]).unwrap();
        let x = gradcheck::random(&[2, 8], 2);
        gradcheck::op(|| Rope::new(positions.clone(), table.clone(), 2), &[x]);
    }

    #[test]
    fn pairs_turn_by_position_times_frequency() {
        let x = gradcheck::random(&[1, 8], 1);
        let y = rope(&[11], 2, 4).forward(&[&x], false).unwrap().to_f64_vec().unwrap();
        let x = x.to_f64_vec().unwrap();
        for head in 0..2 {
            for i in 0..2 {
                let (at, angle) = (head * 4 + i, 11.0 * 10_000f64.powf(-(i as f64) / 2.0));
                let (cos, sin) = (angle.cos(), angle.sin());
                assert!((y[at] - (x[at] * cos - x[at + 2] * sin)).abs() < 1e-14);
                assert!((y[at + 2] - (x[at + 2] * cos + x[at] * sin)).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn products_depend_on_the_distance_of_positions_only() {
        let (q, k) = (gradcheck::random(&[1, 16], 1), gradcheck::random(&[1, 16], 2));
        let score = |at: u32, of: u32| {
            let q = rope(&[at], 1, 16).forward(&[&q], false).unwrap();
            let k = rope(&[of], 1, 16).forward(&[&k], false).unwrap();
            matmul(&q, &k, false, true).unwrap().item().unwrap()
        };
        assert!((score(9, 4) - score(205, 200)).abs() < 1e-12);
        assert!((score(9, 4) - score(9, 5)).abs() > 1e-3);
    }

    #[test]
    fn a_table_that_grew_gives_the_same_bits() {
        let table = Arc::new(RopeTable::plain(10_000.0, 4).unwrap());
        let x = gradcheck::random(&[1, 4], 1);
        let run = |position| {
            let positions = Tensor::from_ids(&Device::Cpu, &[position]).unwrap();
            Rope::new(positions, table.clone(), 1).forward(&[&x], false).unwrap().to_f64_vec().unwrap()
        };
        let before = run(30);
        run(3000);
        assert_eq!(run(30), before);
    }

    #[test]
    fn wrong_widths_positions_and_head_sizes_are_errors() {
        let x = gradcheck::random(&[2, 8], 1);
        assert!(rope(&[0, 1], 3, 4).forward(&[&x], false).unwrap_err().to_string().contains("[2, 12]"));
        assert!(rope(&[0], 2, 4).forward(&[&x], false).is_err());
        let far = rope(&[0, u32::MAX], 2, 4).forward(&[&x], false).unwrap_err().to_string();
        assert!(far.contains("id 4294967295"), "{far}");
        assert!(RopeTable::plain(10_000.0, 3).is_err());
    }
}
