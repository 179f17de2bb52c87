//! The ops of an attention block and the score head behind it.

use super::{devices, parity, random};
use lea::device::{DType, Device};
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use lea::ops::{ForestAttention, NormScore, Op, Rope, RopeTable, Saved};
use lea::tensor::Tensor;
use std::sync::Arc;

#[test]
fn rope() {
    let many: Vec<u32> = (0..131).map(|i| i * 7 % 300).collect();
    for (positions, heads, head_dim) in
        [(&[7][..], 1, 2), (&[0, 3, 3, 90], 3, 6), (&[], 2, 4), (&many[..], 6, 48)]
    {
        let table =
            Arc::new(RopeTable::new((0..head_dim / 2).map(|i| 0.7 / (1.0 + i as f64)).collect(), 1.3));
        let make = |device: &_| Rope::new(Tensor::from_ids(device, positions).unwrap(), table.clone(), heads);
        parity("rope", make, &[random(&[positions.len(), heads * head_dim], 1)]);
    }
}

#[test]
fn norm_score() {
    for (rows, d) in [(1, 1), (3, 16), (5, 77), (0, 3), (130, 288)] {
        let inputs = [random(&[rows, d], 1), random(&[d], 2), random(&[d], 3)];
        parity("norm_score", |_| NormScore::new(1e-5), &inputs);
    }
}

/// Two trees under a root of three rows: trunks, stems of two rows, leaves of one and of three rows.
pub fn forest(trunks: &[u32]) -> AttentionIndex {
    let root = (0, 3);
    let mut rows: Vec<RowRanges> = (0..3).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
    for &trunk in trunks {
        let start = rows.len() as u32;
        rows.extend((0..trunk).map(|t| RowRanges([root, (start, start + t + 1), (0, 0), (0, 0)])));
        for t in [0, trunk / 2, trunk - 1] {
            let stem = rows.len() as u32;
            let seen = (start, start + t + 1);
            rows.extend((0..2).map(|i| RowRanges([root, seen, (stem, stem + i + 1), (0, 0)])));
            for length in [1u32, 1, 3, 1, 20, 1].into_iter().chain([1; 40]) {
                let leaf = rows.len() as u32;
                let own = |i| RowRanges([root, seen, (stem, stem + 2), (leaf, leaf + i + 1)]);
                rows.extend((0..length).map(own));
            }
        }
    }
    let keys = rows.len();
    AttentionIndex::new(rows, keys).unwrap()
}

/// Rows that see nothing but leaves of their own, of lengths 1 to 40.
pub fn leaves(lengths: &[u32]) -> AttentionIndex {
    let mut rows = Vec::new();
    for &length in lengths {
        let leaf = rows.len() as u32;
        rows.extend((0..length).map(|i| RowRanges([(0, 0), (0, 0), (0, 0), (leaf, leaf + i + 1)])));
    }
    let keys = rows.len();
    AttentionIndex::new(rows, keys).unwrap()
}

#[test]
fn forest_attention() {
    let only_leaves = leaves(&[1, 3, 1, 20, 40]);
    let whole = forest(&[70, 2]);
    let windowed = whole.windowed(7).unwrap();
    let causal = AttentionIndex::causal(&[3, 1, 70, 300]).unwrap();
    let deep = causal.windowed(32).unwrap();
    let one = AttentionIndex::causal(&[1]).unwrap();
    // Query rows that are not key rows; the last keys are seen by none.
    let ranges = |i: u32| RowRanges([(4, 6), (0, 0), (10 + i, 60 + i), (3, 4)]);
    let apart = AttentionIndex::new((0..5).map(ranges).collect(), 70).unwrap();
    let none = AttentionIndex::new(Vec::new(), 3).unwrap();
    let shapes: [(&str, &AttentionIndex, usize, usize, usize); 11] = [
        ("forest", &whole, 6, 3, 48),
        ("forest", &whole, 2, 2, 16),
        ("forest", &whole, 4, 1, 5),
        ("window", &windowed, 4, 2, 24),
        ("window of deep rows", &deep, 4, 2, 24),
        ("causal", &causal, 2, 1, 33),
        ("causal", &causal, 3, 3, 64),
        ("one row", &one, 1, 1, 1),
        ("rows apart from keys", &apart, 2, 1, 12),
        ("no row", &none, 1, 1, 4),
        ("row of leaves alone", &only_leaves, 4, 2, 24),
    ];
    for (name, index, heads, kv_heads, head_dim) in shapes {
        let index = Arc::new(index.clone());
        let inputs = [
            random(&[index.rows(), heads * head_dim], 1),
            random(&[index.keys(), kv_heads * head_dim], 2),
            random(&[index.keys(), kv_heads * head_dim], 3),
        ];
        let make = |_: &_| ForestAttention::new(index.clone(), heads, kv_heads, head_dim, 0.7);
        parity(&format!("forest_attention of a {name}"), make, &inputs);
    }
}

#[test]
fn a_row_through_a_window_has_the_same_bits_in_a_tile_of_many_rows_as_in_one_of_few() {
    expect_same_bits_through_a_window(&devices("a_row_through_a_window"), &[150, 5, 70], 24, DType::F32);
}

pub fn expect_same_bits_through_a_window(
    devices: &[Device],
    lengths: &[usize],
    head_dim: usize,
    products: DType,
) {
    let whole = AttentionIndex::causal(lengths).unwrap();
    let (heads, kv_heads) = (4, 2);
    for device in devices {
        for width in [1, 7, 32] {
            let windowed = Arc::new(whole.windowed(width).unwrap());
            let apart = AttentionIndex::new(windowed.ranges().to_vec(), windowed.keys()).unwrap();
            let apart = apart.windowed(width).unwrap();
            assert!(windowed.tiles().len() < apart.tiles().len());
            let run = |index: Arc<AttentionIndex>| {
                let inputs = [(1, heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| {
                    let shape = [whole.rows(), heads * head_dim];
                    let x = random(&shape, seed).to_f64_vec().unwrap();
                    Tensor::from_f64(device, DType::F32, &x, &shape).unwrap()
                });
                let mut op =
                    ForestAttention::new(index, heads, kv_heads, head_dim, 0.3).products_in(products);
                op.forward(&[&inputs[0], &inputs[1], &inputs[2]], false).unwrap().to_vec::<f32>().unwrap()
            };
            assert!(run(windowed) == run(Arc::new(apart)), "{}: window {width}", device.describe());
        }
    }
}

#[test]
fn a_short_leaf_has_the_same_bits_beside_long_ones() {
    let (heads, kv_heads, head_dim) = (4, 2, 24);
    let short = [1; 12];
    let beside = [&short[..], &[20]].concat();
    for device in devices("a_short_leaf") {
        let run = |lengths: &[u32]| {
            let index = Arc::new(leaves(lengths));
            let inputs = [(1, heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| {
                let width = heads * head_dim;
                let x = random(&[32, width], seed).to_f64_vec().unwrap()[..index.rows() * width].to_vec();
                Tensor::from_f64(&device, DType::F32, &x, &[index.rows(), width]).unwrap()
            });
            let mut op = ForestAttention::new(index, heads, kv_heads, head_dim, 0.3);
            op.forward(&[&inputs[0], &inputs[1], &inputs[2]], false)
                .unwrap()
                .rows(0..12)
                .unwrap()
                .to_vec::<f32>()
                .unwrap()
        };
        assert!(run(&short) == run(&beside), "{}", device.describe());
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_forest() {
    expect_same_bits_in_any_forest(&devices("a_row_has_the_same_bits_in_any_forest"), 24, DType::F32);
}

pub fn expect_same_bits_in_any_forest(devices: &[Device], head_dim: usize, products: DType) {
    // The last tree of the forest alone under the same root: its rows must not notice, nor their gradients.
    let whole = Arc::new(forest(&[70, 40]));
    let last = whole.trees().last().unwrap().clone();
    let alone = Arc::new(forest(&[40]));
    assert_eq!(last.rows.len() + 3, alone.rows());
    let (heads, kv_heads) = (4, 2);
    for device in devices {
        let run = |index: &Arc<AttentionIndex>, part: bool| {
            let inputs = [(1, heads), (2, kv_heads), (3, kv_heads), (4, heads)].map(|(seed, heads)| {
                let width = heads * head_dim;
                let mut x = random(&[whole.rows(), width], seed).to_f64_vec().unwrap();
                if part {
                    x.drain(3 * width..last.rows.start * width);
                }
                Tensor::from_f64(device, DType::F32, &x, &[x.len() / width, width]).unwrap()
            });
            let [q, k, v, grad] = inputs;
            let op = ForestAttention::new(index.clone(), heads, kv_heads, head_dim, 0.3);
            let mut op = op.products_in(products);
            let y = op.forward(&[&q, &k, &v], true).unwrap();
            let kept = [Some(q), Some(k), Some(v)];
            let grads = op.backward(&Saved::new(&kept, Some(&y), &[true; 3]), &grad).unwrap();
            [vec![Some(y)], grads].concat()
        };
        let bits = |x: &Option<Tensor>, rows| {
            let rows = x.as_ref().unwrap().rows(rows).unwrap().to_vec::<f32>().unwrap();
            rows.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        for (i, (all, own)) in run(&whole, false).iter().zip(&run(&alone, true)).enumerate() {
            let (all, own) = (bits(all, last.rows.clone()), bits(own, 3..alone.rows()));
            assert!(all == own, "{}: rows of result {i} differ in bits", device.describe());
        }
    }
}
