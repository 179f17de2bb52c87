//! Sums over whole tensors, see `shaders/reduce.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{Buffer, Launch, View, ViewMut, grid};
use crate::Result;
use crate::device::DType;

/// The constant `BLOCK`, elements that one workgroup sums, and its value.
const BLOCK: (&str, u32) = ("BLOCK", 4096);

pub(super) static SHADER: Shader = Shader::new("reduce", include_str!("../../../shaders/reduce.wgsl"))
    .with(&[Part::Each, Part::Reduce])
    .defining(&[LANES, BLOCK]);

/// y = factor · Σ x; `y: [1]`.
pub fn sum(x: View, factor: f32, y: ViewMut) -> Result<()> {
    passes("sum", x, None, factor, y, 0)
}

/// y = Σ weightsᵢ·xᵢ; `y: [1]`.
pub fn dot(x: View, weights: View, y: ViewMut) -> Result<()> {
    passes("dot", x, Some(weights), 1.0, y, 0)
}

/// Element `at` of y = Σ x².
pub fn squares(x: View, y: ViewMut, at: usize) -> Result<()> {
    passes("squares", x, None, 1.0, y, at)
}

/// The first pass by `entry`, then sums of the sums of blocks, into element `at` of y.
fn passes(
    entry: &'static str,
    x: View,
    weights: Option<View>,
    factor: f32,
    y: ViewMut,
    at: usize,
) -> Result<()> {
    let gpu = x.gpu();
    let blocks = x.len().div_ceil(BLOCK.1 as usize).max(1);
    if blocks == 1 {
        return pass(entry, x, weights, factor, y, at);
    }
    let partials = Buffer::scratch(gpu, DType::F32, blocks)?;
    pass(entry, x, weights, 1.0, ViewMut(partials.view(0, blocks)), 0)?;
    passes("sum", partials.view(0, blocks), None, factor, y, at)
}

/// Sums of blocks, from element `at` of `sums` on.
fn pass(
    entry: &'static str,
    x: View,
    weights: Option<View>,
    factor: f32,
    sums: ViewMut,
    at: usize,
) -> Result<()> {
    let (gpu, block) = (x.gpu(), BLOCK.1 as usize);
    let rows = x.len().div_ceil(block).max(1);
    let part = gpu.rows_per_part(rows, block)?;
    for first in (0..rows).step_by(part) {
        let start = first * block;
        let len = (part * block).min(x.len() - start);
        let reads: Vec<View> =
            [Some(x), weights].into_iter().flatten().map(|view| view.part(start, len)).collect();
        gpu.launch(&Launch {
            shader: &SHADER,
            entry,
            defines: &[],
            params: &[len as u32, (at + first) as u32, factor.to_bits()],
            reads: &reads,
            writes: &[sums.part(0, sums.len())],
            groups: grid(len.div_ceil(block).max(1)),
            work: 2 * len as u64,
        })?;
    }
    Ok(())
}

/// Every element of dx = factor · grad; `grad: [1]`.
pub fn spread(grad: View, factor: f32, dx: ViewMut) -> Result<()> {
    let params = &[factor.to_bits()];
    let each = Each { params, whole: &[grad], writes: &[dx], ..Each::of(&SHADER, "spread") };
    each.launch()
}

/// dx = grad · weights; `grad: [1]`.
pub fn spread_weights(grad: View, weights: View, dx: ViewMut) -> Result<()> {
    let each =
        Each { whole: &[grad], reads: &[weights], writes: &[dx], ..Each::of(&SHADER, "spread_weights") };
    each.launch()
}
