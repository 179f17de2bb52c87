//! silu(x·Wgᵀ)·(x·Wuᵀ) with both products and the gate in one pass on AVX-512 and AVX2, x rounded once where the weights are bf16.
//! In f32 the same bits as the two products and SwiGLU one after another; in bf16 what is rounded is within 2⁻¹³ of that. Bound by the
//! arithmetic of the products.

use super::Stores;
use super::matmul_bf16::{self, Left};

/// One of the weights `[n, k]`.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// As it is.
    F32(&'a [f32]),
    /// A frozen one, which rounds x to bf16.
    Bf16(matmul_bf16::Weight<'a>),
}

/// `x: [rows, k]`, `y: [rows, n]`. False, and nothing done, where the processor has no such kernel or the types differ.
pub fn forward<Y: Stores<f32>>(x: Left, weights: [Weight; 2], y: &mut [Y], [n, k]: [usize; 2]) -> bool {
    assert!(n > 0 && y.len().is_multiple_of(n) && x.elements() == y.len() / n * k);
    #[cfg(target_arch = "x86_64")]
    {
        use super::matmul::{Matrix, native};
        use super::matmul_bf16::native::{Pairs, panels};
        use super::packed::Words;
        use super::simd::{Level, level};
        use blocks::gated;
        match (x, weights) {
            (Left::F32(x), [Weight::F32(gate), Weight::F32(up)]) if level() != Level::Portable => {
                let [gate, up] = [gate, up].map(|w| native::pack(Matrix::transposed(w, k, n)));
                let x = Matrix::new(x, y.len() / n, k);
                gated(Words::Single, &native::InPlace(x), &gate, &up, y);
                return true;
            }
            (x, [Weight::Bf16(gate), Weight::Bf16(up)]) if matmul_bf16::has_instructions() => {
                let [gate, up] = [gate, up].map(|w| panels(w, [n, k]));
                gated(Words::Pair, &Pairs { x, k }, &gate, &up, y);
                return true;
            }
            _ => {}
        }
    }
    let _ = (weights, y);
    false
}

#[cfg(target_arch = "x86_64")]
pub(super) mod blocks {
    use super::super::Stores;
    use super::super::avx512::{first, power_of_two};
    use super::super::map::Map;
    use super::super::matmul::Terms;
    use super::super::packed::{COLUMNS, Output, Panels, Place, ROWS, Rows, TASK, Words, block_of};
    use super::super::simd::{self, Kernel};
    use super::super::swiglu::SwiGlu;
    use crate::device::DType;
    use half::bf16;
    use rayon::prelude::*;
    use std::arch::x86_64::*;
    use std::ops::Range;

    /// Most words of a that a task takes, unless a block of rows has more.
    const WORDS: usize = 1 << 16;

    /// Products of a block of rows by a panel, rows of the panel's columns.
    type Block = [[f32; COLUMNS]; ROWS];

    /// y = silu(a·gate)·(a·up); both factors alike, `y: [rows, n]`. The products of a block go no further than the nearest
    /// cache.
    pub fn gated<Y: Stores<f32>>(kind: Words, a: &impl Rows, gate: &Panels, up: &Panels, y: &mut [Y]) {
        let Panels { n, depth, .. } = *gate;
        assert!((n, depth) == (up.n, up.depth));
        let rows = y.len() / n.max(1);
        if rows == 0 {
            return;
        }
        let height = (TASK / (2 * n * depth).max(1))
            .min(WORDS / depth.max(1))
            .clamp(1, rows.div_ceil(rayon::current_num_threads()));
        let height = height.next_multiple_of(ROWS);
        y.par_chunks_mut(height * n).enumerate().for_each_init(Vec::new, |scratch, (task, y)| {
            let first = task * height;
            gated_alone(kind, a, (first..first + y.len() / n, [gate, up]), y, scratch);
        });
    }

    /// The same on this thread alone for some rows of a, which y has; `scratch` may hold anything.
    pub fn gated_alone<Y: Stores<f32>>(
        kind: Words,
        a: &impl Rows,
        (rows, factors): (Range<usize>, [&Panels; 2]),
        y: &mut [Y],
        scratch: &mut Vec<u32>,
    ) {
        let Panels { n, depth, .. } = *factors[0];
        let count = rows.len();
        let (words, pitch) = a.words(rows, 0..depth, scratch);
        let mut products: [Block; 2] = [[[0.0; COLUMNS]; ROWS]; 2];
        for number in 0..n.div_ceil(COLUMNS) {
            let column = number * COLUMNS;
            let columns = COLUMNS.min(n - column);
            let place = Place { n: COLUMNS, end: columns, pitch, row: 0, column: 0 };
            for row in (0..count).step_by(ROWS) {
                let (left, own) = (count - row, &words[row * pitch..]);
                for (factor, to) in factors.iter().zip(&mut products) {
                    let to = Output::F32(to.as_flattened_mut().as_mut_ptr());
                    // SAFETY: the features were found at run time by whoever chose this product; `to` has ROWS rows of COLUMNS.
                    unsafe { block_of(kind, left, own, factor.panel(number), to, place, &Terms::default()) };
                }
                let (y, columns) = (&mut y[row * n..], column..column + columns);
                let gate = Gate { gates: &products[0], ups: &products[1], y, n, columns };
                match (kind, Y::DTYPE) {
                    // SAFETY: as above; for pairs the processor rounds.
                    (Words::Pair, DType::BF16) => unsafe { gate.halves() },
                    _ => simd::dispatch(gate),
                }
            }
        }
    }

    /// silu(gate)·up of the rows that y has, `n` elements each, and of their columns `columns`.
    struct Gate<'a, Y> {
        gates: &'a Block,
        ups: &'a Block,
        y: &'a mut [Y],
        n: usize,
        columns: Range<usize>,
    }

    impl<Y: Stores<f32>> Kernel for Gate<'_, Y> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for ((gates, ups), y) in self.gates.iter().zip(self.ups).zip(self.y.chunks_exact_mut(self.n)) {
                for ((y, &gate), &up) in y[self.columns.clone()].iter_mut().zip(gates).zip(ups) {
                    *y = Y::stored(Map::<f32, 2>::at::<FMA>(SwiGlu, [gate, up]));
                }
            }
        }
    }

    impl<Y: Stores<f32>> Gate<'_, Y> {
        /// The same, rounded to bf16: e⁻ˣ to 18 bits and a reciprocal to 14 are enough for eight.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
        fn halves(self) {
            let one = _mm512_set1_ps(1.0);
            let y: &mut [bf16] = bytemuck::cast_slice_mut(self.y);
            for ((gates, ups), y) in self.gates.iter().zip(self.ups).zip(y.chunks_exact_mut(self.n)) {
                let y = &mut y[self.columns.clone()];
                for from in (0..y.len()).step_by(16) {
                    let mask = first(y.len() - from);
                    // SAFETY: gates and ups have whole vectors, the mask leaves what y has; both halves are 256 bits.
                    unsafe {
                        let [gate, up] = [gates, ups].map(|x| _mm512_loadu_ps(x.as_ptr().add(from)));
                        let exponent = _mm512_mul_ps(gate, _mm512_set1_ps(-std::f32::consts::LOG2_E));
                        let sigmoid = _mm512_rcp14_ps(_mm512_add_ps(one, power_of_two(exponent)));
                        let product = _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid), up);
                        let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(product));
                        _mm256_mask_storeu_epi16(y.as_mut_ptr().add(from).cast(), mask, halves);
                    }
                }
            }
        }
    }
}
