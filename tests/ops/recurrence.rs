//! Recurrences over packed sequences.

use super::{devices, parity, random, to};
use lea::device::DType;
use lea::ops::{Gru, Op, SequenceLayout};
use std::sync::Arc;

fn layout(lengths: &[usize]) -> Arc<SequenceLayout> {
    Arc::new(SequenceLayout::new(lengths).unwrap())
}

#[test]
fn gru() {
    let many: Vec<usize> = (0..40).map(|i| i * 7 % 12).collect();
    for (lengths, h) in [
        (&[1][..], 1),
        (&[3, 0, 1, 4, 4], 3),
        (&[1, 1, 1], 2),
        (&[2, 5], 37),
        (&[0], 2),
        (&[], 2),
        (&many, 16),
        (&many, 65),
    ] {
        let layout = layout(lengths);
        let rows = layout.rows();
        let inputs = [random(&[rows, 3 * h], 1), random(&[3 * h, h], 2), random(&[3 * h], 3)];
        parity("gru", |_| Gru::new(layout.clone()), &inputs);
    }
}

#[test]
fn a_sequence_has_the_same_bits_whatever_sequences_stand_beside_it() {
    let h = 16;
    let lengths: Vec<usize> = (0..50).map(|i| 1 + i * 7 % 12).collect();
    let together = layout(&lengths);
    for device in devices("a sequence of gru") {
        let put = |shape: &[usize], seed| to(&device, DType::F32, &random(shape, seed));
        let (gates, w, bias) = (put(&[together.rows(), 3 * h], 1), put(&[3 * h, h], 2), put(&[3 * h], 3));
        let all = Gru::new(together.clone()).forward(&[&gates, &w, &bias], false).unwrap();
        for sequence in [0, 11, 37, 49] {
            let range = together.range(sequence);
            let own = gates.rows(range.clone()).unwrap();
            let alone = Gru::new(layout(&[range.len()])).forward(&[&own, &w, &bias], true).unwrap();
            let want = all.rows(range).unwrap().to_vec::<f32>().unwrap();
            assert!(alone.to_vec::<f32>().unwrap() == want, "sequence {sequence} on {}", device.describe());
        }
    }
}
