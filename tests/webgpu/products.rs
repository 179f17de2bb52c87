//! Products of matrices.

use super::{parity, random};
use lea::ops::{Linear, Matmul};

#[test]
fn matmul_in_all_layouts() {
    for (m, n, k) in [(1, 1, 1), (3, 5, 2), (8, 32, 16), (65, 67, 33), (130, 70, 129), (2, 200, 300)] {
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = random(&if transpose_a { [k, m] } else { [m, k] }, 1);
            let b = random(&if transpose_b { [n, k] } else { [k, n] }, 2);
            parity("matmul", |_| Matmul { transpose_a, transpose_b }, &[a, b]);
        }
    }
}

#[test]
fn linear_with_bias_and_residual() {
    for (rows, width, out) in [(1, 1, 1), (7, 33, 65), (70, 48, 31)] {
        let (x, w) = (random(&[rows, width], 1), random(&[out, width], 2));
        let (bias, residual) = (random(&[out], 3), random(&[rows, out], 4));
        parity("linear", |_| Linear::default(), &[x.clone(), w.clone()]);
        let with = |bias, residual| move |_: &lea::device::Device| Linear { bias, residual };
        parity("linear", with(false, true), &[x.clone(), w.clone(), residual.clone()]);
        parity("linear", with(true, false), &[x.clone(), w.clone(), bias.clone()]);
        parity("linear", with(true, true), &[x, w, bias, residual]);
    }
}
