//! Ops that work row by row.

use super::{parity, random};
use lea::ops::RmsNorm;

#[test]
fn rms_norm() {
    for (rows, d) in [(1, 1), (3, 16), (5, 77), (130, 288), (1025, 65)] {
        parity("rms_norm", |_| RmsNorm::new(1e-5), &[random(&[rows, d], 1), random(&[d], 2)]);
    }
}
