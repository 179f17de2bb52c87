//! Rows between products in bf16 on the CPU: the same bits as in f32, which products round.

use half::bf16;
use lea::autograd::gradcheck;
use lea::device::{DType, Device};
use lea::ops::forest_attention::{AttentionIndex, ForestAttention};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{
    AttentionInputs, ConcatRows, Embedding, FeedForward, GatedLinear, Linear, Op, RmsNorm, Rope, RopeTable,
    SwiGlu,
};
use lea::tensor::Tensor;
use std::sync::Arc;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let values = gradcheck::random(shape, seed).to_f64_vec().unwrap();
    Tensor::from_f64(&Device::Cpu, DType::F32, &values, shape).unwrap()
}

fn halves(x: &Tensor) -> Tensor {
    let halves: Vec<bf16> = x.to_vec::<f32>().unwrap().into_iter().map(bf16::from_f32).collect();
    Tensor::from_slice(&Device::Cpu, &halves, x.shape()).unwrap()
}

#[track_caller]
fn expect_same(what: &str, found: &Tensor, want: &Tensor) {
    assert_eq!((found.shape(), found.dtype()), (want.shape(), want.dtype()), "{what}");
    let bits = |t: &Tensor| -> Vec<u64> {
        t.to_f64_vec().unwrap().iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect()
    };
    assert!(bits(found) == bits(want), "{what}");
}

const SHAPES: [[usize; 3]; 8] = [
    [1, 1, 1],
    [5, 3, 7],
    [37, 70, 48],
    [12, 32, 64],
    [300, 96, 288],
    [5, 33, 1301],
    [13, 40, 2300],
    [0, 4, 6],
];

#[test]
fn a_product_of_rows_in_bf16_has_the_bits_of_one_that_rounds_them() {
    for [m, n, k] in SHAPES {
        let (a, b, start) = (random(&[m, k], 1), halves(&random(&[n, k], 2)), random(&[m, n], 3));
        let (half, what) = (halves(&a), format!("{m}x{n}x{k}"));
        let want = matmul(&a, &b, false, true).unwrap();
        expect_same(&what, &matmul(&half, &b, false, true).unwrap(), &want);
        // The same weight again, of which something may have been kept, and other rows at another address.
        let [later, later_half] = [&a, &half].map(|x| x.rows(m.min(1)..m).unwrap());
        let want_later = matmul(&later, &b, false, true).unwrap();
        expect_same(&what, &matmul(&later_half, &b, false, true).unwrap(), &want_later);
        let [mut sum, mut found] = [&start; 2].map(Clone::clone);
        matmul_accumulate(&a, &b, false, true, &mut sum).unwrap();
        matmul_accumulate(&half, &b, false, true, &mut found).unwrap();
        expect_same(&what, &found, &sum);

        let (bias, residual) = (random(&[n], 4), random(&[m, n], 5));
        for (bias, residual) in [(None, None), (Some(&bias), Some(&residual)), (Some(&bias), None)] {
            let inputs: Vec<&Tensor> =
                [Some(&half), Some(&b), bias, residual].into_iter().flatten().collect();
            let op = |giving| Linear { bias: bias.is_some(), residual: residual.is_some(), giving };
            let want = op(None).forward(&inputs, false).unwrap();
            let found = op(Some(DType::BF16)).forward(&inputs, false).unwrap();
            expect_same(&what, &found, &halves(&want));
        }
    }
}

#[test]
fn a_weight_of_another_shape_in_the_same_memory_is_another_weight() {
    let b = halves(&random(&[6, 8], 1));
    for (n, k) in [(6, 8), (8, 6), (6, 8), (4, 12)] {
        let (a, b) = (random(&[3, k], 2), b.reshape(&[n, k]).unwrap());
        let anew = Tensor::from_slice(&Device::Cpu, &b.to_vec::<bf16>().unwrap(), &[n, k]).unwrap();
        let want = matmul(&a, &anew, false, true).unwrap();
        expect_same(&format!("{n}x{k}"), &matmul(&a, &b, false, true).unwrap(), &want);
    }
}

#[test]
fn a_gated_product_of_rows_in_bf16_is_the_rounded_one() {
    for [m, n, k] in SHAPES {
        let (x, gate, up) = (random(&[m, k], 1), halves(&random(&[n, k], 2)), halves(&random(&[n, k], 3)));
        let [g, u] = [&gate, &up].map(|w| matmul(&x, w, false, true).unwrap());
        let want = SwiGlu.forward(&[&g, &u], false).unwrap();
        let what = format!("{m}x{n}x{k}");
        expect_same(&what, &GatedLinear.forward(&[&x, &gate, &up], false).unwrap(), &want);
        let found = GatedLinear.forward(&[&halves(&x), &gate, &up], false).unwrap();
        assert_eq!((found.shape(), found.dtype()), (want.shape(), DType::BF16), "{what}");
        for (found, want) in found.to_f64_vec().unwrap().into_iter().zip(want.to_f64_vec().unwrap()) {
            // Half a step of bf16 and what the shorter sigmoid adds.
            assert!(
                (found - want).abs() <= want.abs() * (2f64.powi(-8) + 2f64.powi(-13)),
                "{what}: {found} {want}"
            );
        }
    }
}

#[test]
fn a_feed_forward_block_has_the_bits_of_its_parts() {
    for [rows, f, d] in [[1, 1, 1], [37, 70, 48], [300, 96, 288], [131, 2300, 40], [5, 33, 1301], [0, 4, 6]] {
        let (x, norm) = (random(&[rows, d], 1), random(&[d], 2));
        let [gate, up, down] = [[f, d], [f, d], [d, f]].map(|shape| halves(&random(&shape, shape[0] as u64)));
        if !FeedForward::takes([&x, &norm, &gate, &up, &down]) {
            eprintln!("skipped: the processor does not multiply bf16");
            return;
        }
        let normed = RmsNorm::new(1e-5).giving(DType::BF16).forward(&[&x, &norm], false).unwrap();
        let gated = GatedLinear.forward(&[&normed, &gate, &up], false).unwrap();
        let mut linear = Linear { residual: true, ..Linear::default() };
        let want = linear.forward(&[&gated, &down, &x], false).unwrap();
        let inputs = [&x, &norm, &gate, &up, &down];
        let found = FeedForward::new(1e-5).forward(&inputs, false).unwrap();
        expect_same(&format!("{rows} rows, {d} and {f} wide"), &found, &want);
        assert!(FeedForward::new(1e-5).forward(&inputs, true).unwrap_err().to_string().contains("recorded"));
        let wide = random(&[f, d], 3);
        assert!(!FeedForward::takes([&x, &norm, &wide, &up, &down]));
        assert!(FeedForward::new(1e-5).forward(&[&x, &norm, &gate, &up, &gate], false).is_err() || f == d);
    }
}

#[test]
fn what_attention_reads_has_the_bits_of_its_parts() {
    let shapes = [(1, 2, 2, [1, 1]), (37, 70, 6, [4, 2]), (500, 288, 48, [6, 6]), (0, 4, 2, [1, 1])];
    for (rows, d, head_dim, heads) in shapes {
        let (x, norm) = (random(&[rows, d], 1), random(&[d], 2));
        let widths = [heads[0] * head_dim, heads[1] * head_dim, heads[1] * head_dim];
        let weights = widths.map(|width| halves(&random(&[width, d], width as u64)));
        let biases = widths.map(|width| random(&[width], 3));
        let table = Arc::new(RopeTable::plain(1e4, head_dim).unwrap());
        let ids: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 61).collect();
        let positions = Tensor::from_ids(&Device::Cpu, &ids).unwrap();
        for with_bias in [false, true] {
            let projections = [0, 1, 2].map(|i| (&weights[i], with_bias.then_some(&biases[i])));
            let (positions, rope) = (&positions, &*table);
            let all = AttentionInputs { x: &x, norm: &norm, eps: 1e-5, projections, positions, rope };
            if !all.are_taken() {
                eprintln!("skipped: the processor does not multiply bf16");
                return;
            }
            let found = all.run().unwrap();
            let normed = RmsNorm::new(1e-5).giving(DType::BF16).forward(&[&x, &norm], false).unwrap();
            for (i, (weight, bias)) in projections.into_iter().enumerate() {
                let inputs: Vec<&Tensor> =
                    [Some(&normed), Some(weight), bias].into_iter().flatten().collect();
                let giving = (i == 2).then_some(DType::BF16);
                let mut linear = Linear { bias: with_bias, residual: false, giving };
                let mut want = linear.forward(&inputs, false).unwrap();
                if i < 2 {
                    let op = Rope::new(positions.clone(), table.clone(), heads[i]);
                    want = op.giving(DType::BF16).forward(&[&want], false).unwrap();
                }
                expect_same(&format!("{i} of {rows} rows, {d} wide"), &found[i], &want);
            }
            let short = Tensor::from_ids(&Device::Cpu, &[1, 2]).unwrap();
            assert!(AttentionInputs { positions: &short, ..all }.run().is_err());
            assert!(!AttentionInputs { norm: &halves(&norm), ..all }.are_taken());
        }
    }
}

#[test]
fn norms_and_rotations_give_bf16_by_rounding_what_they_give() {
    for (rows, d) in [(1, 1), (3, 16), (5, 77), (7, 288), (3, 2052)] {
        let (x, weight) = (random(&[rows, d], 1), random(&[d], 2));
        let norm = RmsNorm::new(1e-5);
        let want = norm.clone().forward(&[&x, &weight], false).unwrap();
        let found = norm.giving(DType::BF16).forward(&[&x, &weight], false).unwrap();
        expect_same(&format!("norm of [{rows}, {d}]"), &found, &halves(&want));
    }
    let nan = Tensor::from_slice(&Device::Cpu, &[f32::NAN, 1.0, f32::INFINITY, -2.0], &[2, 2]).unwrap();
    let one = Tensor::full(&Device::Cpu, DType::F32, &[2], 1.0).unwrap();
    let want = RmsNorm::new(1e-5).forward(&[&nan, &one], false).unwrap();
    let found = RmsNorm::new(1e-5).giving(DType::BF16).forward(&[&nan, &one], false).unwrap();
    expect_same("what is no number", &found, &halves(&want));
    for (heads, head_dim) in [(1, 2), (3, 6), (4, 64)] {
        let x = random(&[5, heads * head_dim], 1);
        let positions = Tensor::from_ids(&Device::Cpu, &[0, 3, 90, 7, 1]).unwrap();
        let rope = Rope::new(positions, Arc::new(RopeTable::plain(1e4, head_dim).unwrap()), heads);
        let want = rope.clone().forward(&[&x], false).unwrap();
        let found = rope.giving(DType::BF16).forward(&[&x], false).unwrap();
        expect_same(&format!("{heads} heads of {head_dim}"), &found, &halves(&want));
    }
}

#[test]
fn rows_in_bf16_are_picked_and_laid_one_below_the_other() {
    for d in [1, 2, 7, 40] {
        let (a, b) = (random(&[5, d], 1), random(&[3, d], 2));
        let [a_half, b_half] = [&a, &b].map(halves);
        let ids = Tensor::from_ids(&Device::Cpu, &[7, 0, 4, 5, 4]).unwrap();
        let want = Embedding::new(ids.clone()).forward(&[&a, &b], false).unwrap();
        let found = Embedding::new(ids).forward(&[&a_half, &b_half], false).unwrap();
        expect_same(&format!("rows of {d}"), &found, &halves(&want));
        let want = ConcatRows::new().forward(&[&a, &b], false).unwrap();
        let found = ConcatRows::new().forward(&[&a_half, &b_half], false).unwrap();
        expect_same(&format!("both of {d}"), &found, &halves(&want));
    }
}

#[test]
fn outputs_in_bf16_are_refused_where_they_cannot_be() {
    let (x, weight) = (random(&[2, 8], 1), random(&[8], 2));
    let table = Arc::new(RopeTable::plain(1e4, 8).unwrap());
    let positions = Tensor::from_ids(&Device::Cpu, &[0, 1]).unwrap();
    let index = Arc::new(AttentionIndex::causal(&[2]).unwrap());
    let attention = ForestAttention::new(index, 2, 2, 4, 0.5);
    let half = halves(&x);
    let refused = [
        RmsNorm::new(1e-5).giving(DType::BF16).forward(&[&x, &weight], true),
        Rope::new(positions, table, 1).giving(DType::BF16).forward(&[&x], true),
        Linear { giving: Some(DType::BF16), ..Linear::default() }.forward(&[&x, &x], false),
        attention.clone().giving(DType::BF16).forward(&[&x, &x, &x], false),
        attention.clone().forward(&[&half, &half, &half], false),
        attention.products_in(DType::BF16).forward(&[&half, &half, &half], true),
    ];
    for (case, result) in refused.into_iter().enumerate() {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("bf16"), "{case}: {message}");
    }
}
