//! x + silu(n·Wgᵀ)·(n·Wuᵀ)·Wdᵀ with n = norm(x), in one pass over rows where weights are in bf16 and the processor multiplies it: what
//! lies between x and the result stays in a core's own cache. The same bits as the norm, the gated product and the product one
//! after another. Bound by the arithmetic of the products.

use super::matmul_bf16::Weight;

/// Weights of a feed-forward block.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// Of the norm `[d]`.
    pub norm: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// Gate and up `[f, d]`.
    pub gate: [Weight<'a>; 2],
    /// Down `[d, f]`.
    pub down: Weight<'a>,
}

/// Whether [`forward`] runs for widths d and f.
pub fn is_there(d: usize, f: usize) -> bool {
    super::matmul_bf16::has_instructions() && d > 0 && f > 0
}

/// `x, y: [rows, d]`; only where it [is there](is_there).
#[cfg(target_arch = "x86_64")]
pub fn forward(x: &[f32], of: Weights, y: &mut [f32], f: usize) {
    use super::gated_linear::blocks::gated_alone;
    use super::matmul::Terms;
    use super::matmul_bf16::Left;
    use super::matmul_bf16::native::{Pairs, panels};
    use super::packed::{HEIGHT_ALONE as HEIGHT, Words, height_of, product_alone};
    use super::rms_norm;
    use half::bf16;
    use rayon::prelude::*;

    let d = of.norm.len();
    assert!(is_there(d, f) && x.len() == y.len() && y.len().is_multiple_of(d));
    let [gate, up] = of.gate.map(|w| panels(w, [f, d]));
    let down = panels(of.down, [d, f]);
    let rows = y.len() / d;
    let height = height_of(rows);
    let tasks = y.par_chunks_mut(height * d).zip(x.par_chunks(height * d)).with_max_len(4);
    tasks.for_each_init(
        || (vec![bf16::ZERO; height * d], vec![bf16::ZERO; height * f], Vec::new()),
        |(normed, gated, scratch), (y, x)| {
            let rows = y.len() / d;
            let (normed, gated) = (&mut normed[..rows * d], &mut gated[..rows * f]);
            rms_norm::forward_alone(x, of.norm, of.eps, normed, &mut [0.0; HEIGHT][..rows]);
            let factor = Pairs { x: Left::Bf16(normed), k: d };
            gated_alone(Words::Pair, &factor, (0..rows, [&gate, &up]), gated, scratch);
            let factor = Pairs { x: Left::Bf16(gated), k: f };
            let terms = Terms { residual: Some(x), ..Terms::default() };
            product_alone(Words::Pair, &factor, &down, y, terms, scratch);
        },
    );
}

/// Never called: it is not there.
#[cfg(not(target_arch = "x86_64"))]
pub fn forward(_: &[f32], _: Weights, _: &mut [f32], _: usize) {
    unreachable!("the processor has no bf16")
}
