//! silu(x·Wgᵀ)·(x·Wuᵀ) with both products and the gate in one pass on AVX-512 and AVX2, x rounded once where the weights are bf16.
//! The same bits as the two products and SwiGLU one after another. Bound by the arithmetic of the products.

use half::bf16;

/// One of the weights `[n, k]`.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// As it is.
    F32(&'a [f32]),
    /// A frozen one, which rounds x to bf16.
    Bf16(&'a [bf16]),
}

/// `x: [rows, k]`, `y: [rows, n]`. False, and nothing done, where the processor has no such kernel or the weights differ in
/// type.
pub fn forward(x: &[f32], weights: [Weight; 2], y: &mut [f32], [n, k]: [usize; 2]) -> bool {
    assert!(n > 0 && y.len().is_multiple_of(n) && x.len() == y.len() / n * k);
    #[cfg(target_arch = "x86_64")]
    {
        use super::matmul::{Matrix, native};
        use super::matmul_bf16;
        use super::packed::{Words, gated};
        use super::simd::{Level, level};
        match weights {
            [Weight::F32(gate), Weight::F32(up)] if level() != Level::Portable => {
                let [gate, up] = [gate, up].map(|w| native::pack(Matrix::transposed(w, k, n)));
                let x = Matrix::new(x, y.len() / n, k);
                gated(Words::Single, &native::InPlace(x), &gate, &up, y);
                return true;
            }
            [Weight::Bf16(gate), Weight::Bf16(up)] if matmul_bf16::has_instructions() => {
                let [gate, up] = [gate, up].map(|w| matmul_bf16::native::pack(w, [n, k]));
                gated(Words::Pair, &matmul_bf16::native::Rounded { x, k }, &gate, &up, y);
                return true;
            }
            _ => {}
        }
    }
    let _ = weights;
    false
}
