//! Gradients of forest attention on tensor cores against an f64 reference and a plain loop in bf16.

use super::attention_bf16::{
    Layout, SCALE, attention, cases, far_apart, inputs_of, plain, random_forest, rounded,
};
use super::attention_sm90::trees;
use super::parity::{error, expect_near, random, to};
use super::{devices, generations, in_each_manner};
use half::bf16;
use lea::device::{DType, Device};
use lea::ops::forest_attention::AttentionIndex;
use lea::ops::{Op, Saved};
use lea::tensor::Tensor;
use std::sync::Arc;

fn f32s(x: &Tensor) -> Vec<f32> {
    to(&Device::Cpu, DType::F32, x).to_vec().unwrap()
}

/// What the simplest code gives that multiplies in bf16 and adds in f32: weights, rounded for the values, and their slopes, rounded for
/// queries and keys.
fn plain_gradients(
    inputs: &[Tensor; 3],
    dout: &Tensor,
    index: &AttentionIndex,
    (heads, kv_heads, hd): Layout,
) -> [Tensor; 3] {
    let out = f32s(&plain(inputs, index, (heads, kv_heads, hd)));
    let [q, k, v] = inputs.each_ref().map(|x| f32s(&rounded(x)));
    let dout = f32s(&rounded(dout));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0f32, |sum, (a, b)| sum + a * b);
    let half = |x: f32| bf16::from_f32(x).to_f32();
    let (mut dq, mut dk, mut dv) = (vec![0f32; q.len()], vec![0f32; k.len()], vec![0f32; v.len()]);
    for (row, ranges) in index.ranges().iter().enumerate() {
        let keys: Vec<usize> = (0..4).flat_map(|i| ranges.range(i)).collect();
        for head in 0..heads {
            let own = (row * heads + head) * hd..(row * heads + head + 1) * hd;
            let at = |key: usize| {
                let first = (key * kv_heads + head / (heads / kv_heads)) * hd;
                first..first + hd
            };
            let scores: Vec<f32> =
                keys.iter().map(|&key| SCALE as f32 * dot(&q[own.clone()], &k[at(key)])).collect();
            let most = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let total: f32 = scores.iter().map(|score| (score - most).exp()).sum();
            let delta = dot(&dout[own.clone()], &out[own.clone()]);
            for (&key, score) in keys.iter().zip(&scores) {
                let weight = (score - most).exp() / total;
                let slope = half(weight * (dot(&dout[own.clone()], &v[at(key)]) - delta) * SCALE as f32);
                let weight = half(weight);
                for (row_at, key_at) in own.clone().zip(at(key)) {
                    dq[row_at] += slope * k[key_at];
                    dk[key_at] += slope * q[row_at];
                    dv[key_at] += weight * dout[row_at];
                }
            }
        }
    }
    let tensor =
        |x: &[f32], rows: usize| Tensor::from_slice(&Device::Cpu, x, &[rows, x.len() / rows.max(1)]).unwrap();
    let (rows, keys) = (index.rows(), index.keys());
    [tensor(&dq, rows), tensor(&dk, keys), tensor(&dv, keys)]
}

/// Gradients for that of the output.
fn gradients(
    index: &Arc<AttentionIndex>,
    layout: Layout,
    products: DType,
    inputs: &[Tensor; 3],
    dout: &Tensor,
) -> [Tensor; 3] {
    let mut op = attention(index, layout, products);
    let [q, k, v] = inputs;
    let out = op.forward(&[q, k, v], true).unwrap();
    let kept = inputs.each_ref().map(|x| Some(x.clone()));
    let grads = op.backward(&Saved::new(&kept, Some(&out), &[true; 3]), dout).unwrap();
    grads.into_iter().map(Option::unwrap).collect::<Vec<_>>().try_into().unwrap()
}

fn dout_of(index: &AttentionIndex, (heads, _, hd): Layout) -> Tensor {
    random(&[index.rows(), heads * hd], 4)
}

/// Gradients are as near to those of the rounded inputs as the plain loop's.
fn expect_right_of(
    devices: &[Device],
    name: &str,
    index: &AttentionIndex,
    layout: Layout,
    inputs: &[Tensor; 3],
) {
    let index = Arc::new(index.clone());
    let dout = dout_of(&index, layout);
    let exact = inputs.each_ref().map(rounded);
    let want = gradients(&index, layout, DType::F32, &exact, &rounded(&dout));
    let plain = plain_gradients(inputs, &dout, &index, layout);
    for device in devices {
        in_each_manner(|| {
            let inputs = inputs.each_ref().map(|x| to(device, DType::F32, x));
            let found = gradients(&index, layout, DType::BF16, &inputs, &to(device, DType::F32, &dout));
            for (i, of) in ["q", "k", "v"].iter().enumerate() {
                let place = format!("{name} {layout:?} of {} rows: d{of}", index.rows());
                if index.rows() > 0 || i > 0 {
                    expect_near(&place, &found[i], &plain[i], &want[i]);
                }
            }
        });
    }
}

fn expect_right(devices: &[Device], name: &str, index: &AttentionIndex, layout: Layout) {
    expect_right_of(devices, name, index, layout, &inputs_of(index, layout));
}

#[test]
fn gradients_in_bf16_are_as_near_as_those_of_a_plain_loop() {
    let devices = devices("gradients in bf16");
    // The plain loop and the reference of larger ones take seconds.
    let small = |(_, index, (heads, _, hd)): &(_, AttentionIndex, Layout)| {
        index.pairs() * (heads * hd) as u64 <= 6_000_000
    };
    for (name, index, layout) in cases().into_iter().filter(small) {
        expect_right(&devices, name, &index, layout);
    }
}

#[test]
fn gradients_in_bf16_of_random_forests_are_as_near_as_those_of_a_plain_loop() {
    let layouts = [(1, 1, 64), (2, 1, 128), (6, 1, 48), (4, 2, 32), (1, 1, 96), (3, 1, 17)];
    let devices = devices("gradients in bf16 of random forests");
    for (seed, layout) in layouts.into_iter().enumerate() {
        let index = random_forest(seed as u64);
        expect_right(&devices, &format!("random forest {seed}"), &index, layout);
        if seed % 2 == 0 {
            continue;
        }
        let windowed = index.windowed(40).unwrap();
        expect_right(&devices, &format!("random forest {seed} through a window"), &windowed, layout);
    }
}

/// Many stems of a few keys in one block, long leaves, a trunk of several blocks and parts.
#[test]
fn gradients_in_bf16_of_stems_and_long_leaves_are_as_near_as_those_of_a_plain_loop() {
    let stems = trees(5, &[(3, 2, &[1, 1, 2]), (1, 1, &[1; 5]), (20, 3, &[2; 3])]);
    let long = trees(70, &[(3, 0, &[3, 40, 1]), (90, 0, &[1])]);
    let devices = devices("gradients in bf16 of stems");
    for layout in [(2, 1, 64), (2, 1, 36)] {
        expect_right(&devices, "stems", &stems, layout);
    }
    expect_right(&devices, "long leaves", &long, (2, 1, 32));
}

/// Groups of more heads than a tile has rows; heads whose sums two blocks make, and that no product is as wide as.
#[test]
fn gradients_in_bf16_of_heads_of_any_number_and_width_are_as_near_as_those_of_a_plain_loop() {
    let index = trees(3, &[(2, 1, &[1, 2]), (1, 0, &[1])]);
    let devices = devices("gradients in bf16 of heads");
    for layout in [(70, 1, 8), (2, 2, 7), (2, 1, 200), (1, 1, 256)] {
        expect_right(&devices, "heads", &index, layout);
    }
}

/// Weights of all sizes: most keys of a row weigh nothing, or one all.
#[test]
fn gradients_in_bf16_of_scores_far_apart_are_as_near_as_those_of_a_plain_loop() {
    let devices = devices("gradients of scores far apart");
    for (name, index, layout, inputs) in far_apart() {
        expect_right_of(&devices, &name, &index, layout, &inputs);
    }
}

/// What training loses by them: of the gradients of unrounded inputs they are off by a few of the 2⁻⁹ to which a factor is rounded.
#[test]
fn gradients_in_bf16_are_within_two_percent_of_those_in_f64() {
    let largest = |x: &[f64]| x.iter().fold(0f64, |most, x| most.max(x.abs()));
    for (seed, layout) in [(1, (4, 2, 24)), (5, (2, 1, 64)), (2, (2, 2, 128))] {
        let index = Arc::new(random_forest(seed));
        let (inputs, dout) = (inputs_of(&index, layout), dout_of(&index, layout));
        let want = gradients(&index, layout, DType::F32, &inputs, &dout);
        for device in generations("gradients in bf16 beside f64") {
            let inputs = inputs.each_ref().map(|x| to(&device, DType::F32, x));
            let found = gradients(&index, layout, DType::BF16, &inputs, &to(&device, DType::F32, &dout));
            for (of, (found, want)) in ["q", "k", "v"].iter().zip(found.iter().zip(&want)) {
                let [found, want] = [found, want].map(|x| x.to_f64_vec().unwrap());
                let relative = error(&found, &want) / largest(&want);
                let place = format!("random forest {seed} {layout:?}: d{of} is off by {relative:e}");
                assert!(relative > 0.0 && relative < 0.02, "{place}");
            }
        }
    }
}

#[test]
fn gradients_in_bf16_have_the_same_bits_in_any_order_of_threads() {
    let layout = (4, 1, 64);
    let index = Arc::new(random_forest(2));
    let (inputs, dout) = (inputs_of(&index, layout), dout_of(&index, layout));
    for device in generations("bits of gradients in bf16") {
        let found = std::cell::RefCell::new(Vec::new());
        in_each_manner(|| {
            let inputs = inputs.each_ref().map(|x| to(&device, DType::F32, x));
            let grads = gradients(&index, layout, DType::BF16, &inputs, &to(&device, DType::F32, &dout));
            let bits = |x: Tensor| x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits);
            found.borrow_mut().push(grads.into_iter().flat_map(bits).collect::<Vec<_>>());
        });
        let found = found.into_inner();
        assert!(found.iter().all(|bits| *bits == found[0]), "{}", device.describe());
    }
}
