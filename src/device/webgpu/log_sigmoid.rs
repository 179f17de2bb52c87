//! Pairwise log-sigmoid losses, see `shaders/log_sigmoid.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("log_sigmoid", include_str!("../../../shaders/log_sigmoid.wgsl"))
        .with(&[Part::Each, Part::Math, Part::Reduce])
        .defining(&[LANES]);

/// lossᵢⱼ = −log σ(pᵢ − qᵢⱼ − margin); `positive: [n]`, `negative, losses: [n, k]`.
pub fn forward(positive: View, negative: View, k: usize, margin: f32, losses: ViewMut) -> Result<()> {
    let each = Each {
        params: &[k as u32, margin.to_bits()],
        whole: &[positive],
        reads: &[negative],
        writes: &[losses],
        row: k,
        work: 20,
        ..Each::of(&SHADER, "forward")
    };
    each.launch()
}

/// dqᵢⱼ = gradᵢⱼ·σ(margin − (pᵢ − qᵢⱼ)).
pub fn backward(
    positive: View,
    negative: View,
    grad: View,
    k: usize,
    margin: f32,
    dnegative: ViewMut,
) -> Result<()> {
    let each = Each {
        params: &[k as u32, margin.to_bits()],
        whole: &[positive],
        reads: &[negative, grad],
        writes: &[dnegative],
        row: k,
        work: 10,
        ..Each::of(&SHADER, "backward")
    };
    each.launch()
}

/// dpᵢ = −Σⱼ dqᵢⱼ; `dnegative: [n, k]`, `dpositive: [n]`.
pub fn backward_positive(dnegative: View, k: usize, dpositive: ViewMut) -> Result<()> {
    let n = dpositive.len();
    let lanes = LANES.1 as usize;
    let part = dnegative.gpu().rows_per_part(n, k)?;
    for first in (0..n).step_by(part) {
        let rows = part.min(n - first);
        let long = k >= lanes;
        dnegative.gpu().launch(&Launch {
            shader: &SHADER,
            entry: if long { "long_sums" } else { "short_sums" },
            defines: &[],
            params: &[rows as u32, first as u32, k as u32, 0],
            reads: &[dnegative.part(first * k, rows * k)],
            writes: &[dpositive.part(first, rows)],
            groups: grid(if long { rows } else { rows.div_ceil(lanes) }),
            work: (rows * k) as u64,
        })?;
    }
    Ok(())
}
