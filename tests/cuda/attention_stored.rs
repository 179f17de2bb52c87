//! Forest attention from and into bf16: the bits of f32 inputs that bf16 has, and of an f32 output rounded.

use super::attention_bf16::{Layout, attention, inputs_of, random_forest};
use super::attention_sm90::{hopper, trees};
use super::ops::attention::forest;
use super::{generations, in_each_manner};
use half::bf16;
use lea::Error;
use lea::device::profile::record;
use lea::device::{DType, Device};
use lea::ops::forest_attention::AttentionIndex;
use lea::ops::{ForestAttention, Op};
use lea::tensor::Tensor;
use std::sync::Arc;

/// Random values of bf16, in bf16 and in f32.
fn stored(device: &Device, x: &Tensor) -> [Tensor; 2] {
    let halves: Vec<bf16> = x.to_f64_vec().unwrap().iter().map(|&x| bf16::from_f32(x as f32)).collect();
    let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let [halves, wide] = [
        Tensor::from_slice(device, &halves, x.shape()).unwrap(),
        Tensor::from_slice(device, &wide, x.shape()).unwrap(),
    ];
    [halves, wide]
}

fn forward(mut op: ForestAttention, [q, k, v]: &[&Tensor; 3]) -> Tensor {
    op.forward(&[q, k, v], false).unwrap()
}

/// All ways in which `inputs` (in bf16, and the same values in f32) come and go give the same bits.
fn expect_the_same_bits(place: &str, index: &Arc<AttentionIndex>, layout: Layout, inputs: &[[Tensor; 2]; 3]) {
    let [halves, wide] = [0, 1].map(|i| inputs.each_ref().map(|x| &x[i]));
    let op = || attention(index, layout, DType::BF16);
    let want = forward(op(), &wide).to_vec::<f32>().unwrap();
    let rounded: Vec<u16> = want.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
    let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let as_halves =
        |x: &Tensor| -> Vec<u16> { x.to_vec::<bf16>().unwrap().into_iter().map(bf16::to_bits).collect() };
    let in_f32 = forward(op().giving(DType::F32), &halves);
    assert!(bits(in_f32.to_vec().unwrap()) == bits(want.clone()), "{place}: bf16 in, f32 out");
    assert!(as_halves(&forward(op(), &halves)) == rounded, "{place}: bf16 in and out");
    assert!(as_halves(&forward(op().giving(DType::BF16), &halves)) == rounded, "{place}: bf16 asked for");
    assert!(as_halves(&forward(op().giving(DType::BF16), &wide)) == rounded, "{place}: f32 in, bf16 out");
}

#[test]
fn inputs_in_bf16_give_the_bits_of_those_values_in_f32() {
    let one = AttentionIndex::causal(&[1]).unwrap();
    let causal = AttentionIndex::causal(&[3, 1, 70, 90]).unwrap();
    let whole = forest(&[70, 2]);
    let windowed = random_forest(1).windowed(40).unwrap();
    let cases: [(&str, AttentionIndex, Layout); 15] = [
        ("one row", one.clone(), (1, 1, 1)),
        ("one row", one.clone(), (140, 1, 64)),
        ("one row", one, (2, 2, 256)),
        ("causal", causal.clone(), (2, 1, 33)),
        ("causal", causal.clone(), (2, 2, 80)),
        ("causal", causal, (3, 3, 64)),
        ("forest", whole.clone(), (2, 2, 12)),
        ("forest", whole.clone(), (2, 1, 200)),
        ("forest", whole.clone(), (6, 2, 128)),
        ("forest", whole, (2, 2, 128)),
        ("random forest", random_forest(2), (4, 1, 64)),
        ("random forest", random_forest(3), (3, 1, 128)),
        ("random forest", random_forest(0), (2, 2, 96)),
        ("random forest", random_forest(5), (2, 1, 32)),
        ("window", windowed, (4, 2, 64)),
    ];
    for device in generations("attention from bf16") {
        for (name, index, layout) in &cases {
            let index = Arc::new(index.clone());
            let inputs = inputs_of(&index, *layout).map(|x| stored(&device, &x));
            let place = format!("{name} {layout:?} on {}", device.describe());
            in_each_manner(|| expect_the_same_bits(&place, &index, *layout, &inputs));
        }
    }
}

/// Queries and leaves of an item follow those of the one before in the same memory: more items than blocks, leaves of more keys than there
/// is room for, tiles without leaves.
#[test]
fn rows_of_many_items_keep_to_their_own_queries_and_leaves_on_hopper() {
    let many = trees(
        5,
        &[(3, 0, &[1, 1, 2]), (1, 1, &[1; 5]), (2, 0, &[3, 150, 1]), (20, 2, &[1; 30]), (1, 0, &[1, 390])],
    );
    for device in hopper("queries and leaves of many items") {
        for layout in [(2, 2, 64), (3, 1, 64), (2, 2, 128)] {
            let index = Arc::new(many.clone());
            let inputs = inputs_of(&index, layout).map(|x| stored(&device, &x));
            in_each_manner(|| expect_the_same_bits("many items", &index, layout, &inputs));
        }
    }
}

/// Rows of a larger tensor, which begin at no multiple of 16 bytes: nothing is copied 16 bytes at a time then.
#[test]
fn inputs_in_bf16_may_begin_anywhere() {
    for device in generations("attention from parts of tensors in bf16") {
        for (heads, kv_heads, hd) in [(1, 1, 4), (3, 1, 6), (1, 1, 7), (2, 2, 12), (3, 1, 64)] {
            let index = Arc::new(random_forest(1));
            let inputs = [(index.rows(), heads, 1), (index.keys(), kv_heads, 2), (index.keys(), kv_heads, 3)]
                .map(|(rows, heads, seed)| {
                    let whole = super::parity::random(&[rows + 1, heads * hd], seed);
                    stored(&device, &whole).map(|x| x.rows(1..rows + 1).unwrap())
                });
            let place = format!("{heads} heads over {kv_heads} of {hd} on {}", device.describe());
            expect_the_same_bits(&place, &index, (heads, kv_heads, hd), &inputs);
        }
    }
}

#[test]
fn keys_in_bf16_are_read_where_they_are() {
    for device in generations("attention without a copy of keys") {
        for (layout, copies) in [((2, 1, 64), 0), ((2, 1, 128), 0), ((2, 1, 24), 0), ((2, 1, 20), 2)] {
            let index = Arc::new(random_forest(1));
            let inputs = inputs_of(&index, layout).map(|x| stored(&device, &x));
            let launches = |of: usize| {
                let run = || {
                    Ok(forward(attention(&index, layout, DType::BF16), &inputs.each_ref().map(|x| &x[of])))
                };
                record(&device, run).unwrap().1.launches
            };
            let rounded = |of| launches(of).iter().filter(|launch| launch.kernel.contains("round")).count();
            assert_eq!((rounded(0), rounded(1)), (copies, 2), "{layout:?} on {}", device.describe());
        }
    }
}

#[test]
fn attention_in_bf16_that_cannot_be_is_an_error_that_says_what_to_do() {
    let index = Arc::new(random_forest(1));
    let layout = (2, 1, 64);
    let refusal = |device: &Device, op: ForestAttention, of: usize, record: bool| {
        let mut op = op;
        let inputs = inputs_of(&index, layout).map(|x| stored(device, &x));
        match op.forward(&[&inputs[0][of], &inputs[1][of], &inputs[2][of]], record) {
            Err(error @ Error::Unsupported { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let op = |products| attention(&index, layout, products);
    for device in generations("attention in bf16 refused") {
        let in_f32 = refusal(&device, op(DType::F32), 0, false);
        assert!(in_f32.contains("products_in"), "{in_f32}");
        let recorded = refusal(&device, op(DType::BF16), 0, true);
        assert!(recorded.contains("give q, k and v in f32"), "{recorded}");
        let recorded = refusal(&device, op(DType::BF16).giving(DType::BF16), 1, true);
        assert!(recorded.contains("f32 in and bf16 out"), "{recorded}");
        assert!(refusal(&device, op(DType::BF16).giving(DType::U32), 1, false).contains("u32 out"));
    }
    let on_cpu = refusal(&Device::Cpu, op(DType::BF16).giving(DType::BF16), 1, false);
    assert!(on_cpu.contains("give f32"), "{on_cpu}");
}
