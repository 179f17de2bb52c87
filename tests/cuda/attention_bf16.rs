//! Forest attention on tensor cores against an f64 reference and a plain loop in bf16.

use super::ops::attention::{expect_same_bits_in_any_forest, expect_same_bits_through_a_window, forest};
use super::parity::{expect_near, random, run, to};
use super::{devices, generations, in_each_manner};
use half::bf16;
use lea::device::{DType, Device};
use lea::ops::ForestAttention;
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// The nearest values of bf16, by way of f32: `bf16::from_f64` takes values near a tie for the tie.
pub fn rounded(x: &Tensor) -> Tensor {
    let nearest = |&x: &f64| bf16::from_f32(x as f32).to_f64();
    let values: Vec<f64> = x.to_f64_vec().unwrap().iter().map(nearest).collect();
    Tensor::from_f64(&Device::Cpu, DType::F64, &values, x.shape()).unwrap()
}

/// Heads, key heads, width of a head.
pub type Layout = (usize, usize, usize);

pub const SCALE: f64 = 0.4;

/// What the simplest code gives that multiplies in bf16 and adds in f32: weights exp(score − highest), rounded for the values.
pub fn plain(inputs: &[Tensor; 3], index: &AttentionIndex, (heads, kv_heads, hd): Layout) -> Tensor {
    let [q, k, v] =
        inputs.each_ref().map(|x| to(&Device::Cpu, DType::F32, &rounded(x)).to_vec::<f32>().unwrap());
    let mut out = vec![0f32; q.len()];
    for (row, ranges) in index.ranges().iter().enumerate() {
        let keys: Vec<usize> = (0..4).flat_map(|i| ranges.range(i)).collect();
        for head in 0..heads {
            let q = &q[(row * heads + head) * hd..][..hd];
            let at = |key: usize| (key * kv_heads + head / (heads / kv_heads)) * hd;
            let dot = |key| q.iter().zip(&k[at(key)..]).fold(0f32, |sum, (a, b)| sum + a * b);
            let scores: Vec<f32> = keys.iter().map(|&key| SCALE as f32 * dot(key)).collect();
            let most = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f32 = weights.iter().sum();
            for d in 0..hd {
                let terms =
                    keys.iter().zip(&weights).map(|(&key, &w)| bf16::from_f32(w).to_f32() * v[at(key) + d]);
                out[(row * heads + head) * hd + d] = terms.sum::<f32>() / total;
            }
        }
    }
    Tensor::from_slice(&Device::Cpu, &out, &[index.rows(), heads * hd]).unwrap()
}

/// Users under a root or none, with trunks, stems and leaves of random lengths, many of them 0 or 1.
pub fn random_forest(seed: u64) -> AttentionIndex {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let root = [0, 1, 17, 64, 70][rng.random_range(0..5)];
    let mut rows: Vec<RowRanges> =
        (0..root).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
    for _ in 0..rng.random_range(1..4) {
        let start = rows.len() as u32;
        let trunk = [1, 2, 15, 64, 130][rng.random_range(0..5)];
        rows.extend((0..trunk).map(|t| RowRanges([(0, root), (start, start + t + 1), (0, 0), (0, 0)])));
        for t in [0, trunk - 1] {
            let (stem, seen) = (rows.len() as u32, (start, start + t + 1));
            let length = rng.random_range(0..3);
            rows.extend((0..length).map(|i| RowRanges([(0, root), seen, (stem, stem + i + 1), (0, 0)])));
            for _ in 0..rng.random_range(1..40) {
                let leaf = rows.len() as u32;
                let longest = [1, 1, 1, 1, 3, 20][rng.random_range(0..6)];
                let own = |i| RowRanges([(0, root), seen, (stem, stem + length), (leaf, leaf + i + 1)]);
                rows.extend((0..longest).map(own));
            }
        }
    }
    let keys = rows.len();
    AttentionIndex::new(rows, keys).unwrap()
}

pub fn inputs_of(index: &AttentionIndex, (heads, kv_heads, hd): Layout) -> [Tensor; 3] {
    [(index.rows(), heads, 1), (index.keys(), kv_heads, 2), (index.keys(), kv_heads, 3)]
        .map(|(rows, heads, seed)| random(&[rows, heads * hd], seed))
}

pub fn attention(
    index: &Arc<AttentionIndex>,
    (heads, kv_heads, hd): Layout,
    products: DType,
) -> ForestAttention {
    ForestAttention::new(index.clone(), heads, kv_heads, hd, SCALE).products_in(products)
}

/// The output is as near to that of the rounded inputs as the plain loop's, which is nearer than to that of the inputs.
pub fn expect_right(devices: &[Device], name: &str, index: &AttentionIndex, layout: Layout) {
    let inputs = inputs_of(index, layout);
    expect_right_of(devices, name, index, layout, &inputs);
}

fn expect_right_of(
    devices: &[Device],
    name: &str,
    index: &AttentionIndex,
    layout: Layout,
    inputs: &[Tensor; 3],
) {
    let index = Arc::new(index.clone());
    let exact = inputs.each_ref().map(rounded);
    let (want, _) = run(&mut attention(&index, layout, DType::F32), &exact, &[false; 3]);
    let plain = plain(inputs, &index, layout);
    for device in devices {
        in_each_manner(|| {
            let inputs = inputs.each_ref().map(|x| to(device, DType::F32, x));
            let mut op = attention(&index, layout, DType::BF16);
            let found = lea::ops::Op::forward(&mut op, &[&inputs[0], &inputs[1], &inputs[2]], false).unwrap();
            let place = format!("{name} {layout:?} of {} rows", index.rows());
            expect_near(&place, &found, &plain, &want);
        });
    }
}

/// Forests of every kind, and heads of every width.
pub fn cases() -> Vec<(&'static str, AttentionIndex, Layout)> {
    let one = AttentionIndex::causal(&[1]).unwrap();
    let causal = AttentionIndex::causal(&[3, 1, 70, 130]).unwrap();
    // Query rows that are not key rows; a range between is empty; the last keys are seen by none.
    let ranges = |i: u32| RowRanges([(4, 6), (0, 0), (10 + i, 60 + i), (3, 4)]);
    let apart = AttentionIndex::new((0..5).map(ranges).collect(), 70).unwrap();
    let none = AttentionIndex::new(Vec::new(), 3).unwrap();
    let whole = forest(&[70, 2]);
    let windowed = whole.windowed(7).unwrap();
    let deep = AttentionIndex::causal(&[3, 90]).unwrap().windowed(32).unwrap();
    vec![
        ("one row", one.clone(), (1, 1, 1)),
        ("one row", one.clone(), (70, 1, 16)),
        ("one row", one.clone(), (2, 2, 256)),
        ("no row", none.clone(), (2, 1, 4)),
        ("rows apart from keys", apart.clone(), (2, 1, 12)),
        ("rows apart from keys", apart.clone(), (70, 1, 8)),
        ("causal", causal.clone(), (2, 1, 33)),
        ("causal", causal.clone(), (3, 3, 64)),
        ("causal", causal.clone(), (2, 1, 256)),
        ("causal", causal.clone(), (2, 2, 80)),
        ("forest", whole.clone(), (4, 1, 64)),
        ("forest", whole.clone(), (7, 1, 128)),
        ("forest", whole.clone(), (2, 2, 5)),
        ("forest", whole.clone(), (2, 1, 200)),
        ("window", windowed.clone(), (4, 2, 24)),
        ("window of deep rows", deep.clone(), (4, 2, 128)),
    ]
}

#[test]
fn products_in_bf16_are_as_near_as_those_of_a_plain_loop() {
    let devices = devices("forest attention in bf16");
    for (name, index, layout) in cases() {
        expect_right(&devices, name, &index, layout);
    }
}

#[test]
fn products_in_bf16_of_random_forests_are_as_near_as_those_of_a_plain_loop() {
    let layouts = [(2, 1, 64), (3, 1, 128), (1, 1, 48), (4, 2, 32), (6, 1, 96), (2, 2, 17)];
    let devices = devices("random forests in bf16");
    for (seed, layout) in layouts.into_iter().enumerate() {
        let index = random_forest(seed as u64);
        expect_right(&devices, &format!("random forest {seed}"), &index, layout);
        let windowed = index.windowed(40).unwrap();
        expect_right(&devices, &format!("random forest {seed} through a window"), &windowed, layout);
    }
}

/// Forests whose scores are of all sizes.
pub fn far_apart() -> impl Iterator<Item = (String, AttentionIndex, Layout, [Tensor; 3])> {
    let cases = [(1, (2, 1, 64), 5.0), (2, (2, 2, 128), 20.0), (5, (3, 1, 40), 80.0)];
    cases.into_iter().map(|(seed, layout, times)| {
        let index = random_forest(seed);
        let mut inputs = inputs_of(&index, layout);
        let larger: Vec<f64> = inputs[0].to_f64_vec().unwrap().into_iter().map(|x| x * times).collect();
        inputs[0] = Tensor::from_f64(&Device::Cpu, DType::F64, &larger, inputs[0].shape()).unwrap();
        (format!("q times {times}"), index, layout, inputs)
    })
}

/// Scores of all sizes, so that the highest so far rises by much and by little, in chunks of keys and in leaves.
#[test]
fn scores_far_apart_are_as_near_as_a_plain_loop() {
    let devices = generations("scores far apart");
    for (name, index, layout, inputs) in far_apart() {
        expect_right_of(&devices, &name, &index, layout, &inputs);
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_forest_with_products_in_bf16() {
    let devices = devices("same bits in bf16");
    in_each_manner(|| expect_same_bits_in_any_forest(&devices, 24, DType::BF16));
}

#[test]
fn a_row_has_the_same_bits_through_a_window_with_products_in_bf16() {
    let devices = devices("same bits in bf16 through a window");
    in_each_manner(|| expect_same_bits_through_a_window(&devices, &[150, 5, 70], 24, DType::BF16));
}
