//! Queries, keys and values of norm(x), the first two rotated, in one pass over rows where weights are in bf16 and the processor
//! multiplies it. The same bits as the norm, the products and the rotations one after another. Bound by the arithmetic of the
//! products.

use super::matmul_bf16::Weight;
use super::rope::Angles;
use half::bf16;

/// One of the projections.
#[derive(Clone, Copy)]
pub struct Projection<'a> {
    /// `[n, d]`.
    pub weight: Weight<'a>,
    /// `[n]`.
    pub bias: Option<&'a [f32]>,
    /// n.
    pub width: usize,
}

/// What rows go through.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    /// Weight of the norm `[d]`.
    pub norm: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// Of queries, keys and values.
    pub projections: [Projection<'a>; 3],
    /// Of the rows.
    pub positions: &'a [u32],
    /// Of those positions.
    pub angles: Angles<'a, f32>,
}

/// `x: [rows, d]`, each of `to` as wide as its projection. Only where
/// [products of bf16 are there](super::matmul_bf16::has_instructions).
#[cfg(target_arch = "x86_64")]
pub fn forward(x: &[f32], of: Of, to: [&mut [bf16]; 3]) {
    use super::matmul::Terms;
    use super::matmul_bf16::native::{Pairs, panels};
    use super::matmul_bf16::{Left, has_instructions};
    use super::packed::{HEIGHT_ALONE as HEIGHT, Words, height_of, product_alone};
    use super::{rms_norm, rope};
    use rayon::prelude::*;

    let (d, rows) = (of.norm.len(), of.positions.len());
    assert!(has_instructions() && x.len() == rows * d);
    let factors = of.projections.map(|projection| panels(projection.weight, [projection.width, d]));
    let height = height_of(rows);
    let widths = of.projections.map(|projection| projection.width);
    let [q, k, v] = to;
    assert!([&*q, k, v].iter().zip(widths).all(|(to, width)| to.len() == rows * width));
    let outputs = q
        .par_chunks_mut((height * widths[0]).max(1))
        .zip(k.par_chunks_mut((height * widths[1]).max(1)))
        .zip(v.par_chunks_mut((height * widths[2]).max(1)));
    let inputs = x.par_chunks((height * d).max(1)).zip(of.positions.par_chunks(height));
    let scratch = || (vec![bf16::ZERO; height * d], vec![0.0; height * widths[0].max(widths[1])], Vec::new());
    inputs.zip(outputs).with_max_len(4).for_each_init(
        scratch,
        |(normed, product, scratch), ((x, positions), ((q, k), v))| {
            let normed = &mut normed[..x.len()];
            rms_norm::forward_alone(x, of.norm, of.eps, normed, &mut [0.0; HEIGHT][..positions.len()]);
            let factor = Pairs { x: Left::Bf16(normed), k: d };
            let terms = |i: usize| Terms { bias: of.projections[i].bias, ..Terms::default() };
            for (i, to) in [q, k].into_iter().enumerate() {
                let product = &mut product[..to.len()];
                product_alone(Words::Pair, &factor, &factors[i], product, terms(i), scratch);
                rope::rotate_alone(product, positions, of.angles, to);
            }
            product_alone(Words::Pair, &factor, &factors[2], v, terms(2), scratch);
        },
    );
}

/// Never called: there are no products of bf16.
#[cfg(not(target_arch = "x86_64"))]
pub fn forward(_: &[f32], _: Of, _: [&mut [bf16]; 3]) {
    unreachable!("the processor has no bf16")
}
