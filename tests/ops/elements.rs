//! Ops that compute each element from those at its place, and sums over rows and over everything.

use super::{devices, error, expect_near, limited_devices, parity, parity_on, random, to};
use lea::device::{DType, Device};
use lea::ops::add::sum_rows;
use lea::ops::{
    Activation, ConcatRows, DotWeights, Dropout, L2Normalize, LayerNorm, Mean, MeanRows, Mul, Op,
    PairLogSigmoid, Scale, SubRow, Sum, SwiGlu, TdLoss,
};
use lea::tensor::Tensor;

/// Lengths around those of workgroups and blocks.
const LENGTHS: [usize; 6] = [0, 1, 63, 65, 4097, 9_999];

const SHAPES: [[usize; 2]; 8] = [[0, 3], [2, 0], [1, 1], [1, 77], [257, 1], [5, 31], [300, 33], [1025, 65]];

/// `x` times `factor`, in f64.
fn times(x: &Tensor, factor: f64) -> Tensor {
    Scale(factor).forward(&[x], false).unwrap()
}

#[test]
fn add() {
    for len in LENGTHS {
        parity("add", |_| lea::ops::add::Add, &[random(&[len], 1), random(&[len], 2)]);
    }
}

#[test]
fn adding_leaves_the_tensors_that_share_the_buffer() {
    for device in devices("adding_leaves_the_tensors_that_share_the_buffer") {
        let rows = to(&device, DType::F32, &random(&[5, 3], 1));
        let before = rows.to_vec::<f32>().unwrap();
        let mut sum = rows.rows(1..3).unwrap();
        lea::ops::add::add_assign(&mut sum, &rows.rows(3..5).unwrap()).unwrap();
        let want: Vec<f32> = (3..9).map(|i| before[i] + before[i + 6]).collect();
        assert_eq!(sum.to_vec::<f32>().unwrap(), want);
        assert_eq!(rows.to_vec::<f32>().unwrap(), before);
    }
}

#[test]
fn scale() {
    for len in LENGTHS {
        parity("scale", |_| Scale(-0.3), &[random(&[len], 1)]);
    }
}

#[test]
fn mul() {
    for len in LENGTHS {
        parity("mul", |_| Mul, &[random(&[len], 1), random(&[len], 2)]);
    }
}

#[test]
fn sub_row() {
    for [rows, d] in SHAPES {
        parity("sub_row", |_| SubRow, &[random(&[rows, d], 1), random(&[d], 2)]);
    }
}

#[test]
fn mean_rows() {
    for [rows, d] in SHAPES {
        if rows > 0 {
            parity("mean_rows", |_| MeanRows::new(), &[random(&[rows, d], 1)]);
        }
    }
}

#[test]
fn sums_over_rows() {
    for device in devices("sums_over_rows") {
        for shape in SHAPES.into_iter().chain([[70_000, 3]]) {
            let x = random(&shape, 1);
            let on = |device: &Device, dtype| sum_rows(&to(device, dtype, &x)).unwrap();
            let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
            let what = format!("sum_rows of {shape:?} on {device}");
            expect_near(&what, &on(&device, DType::F32), &plain, &want);
        }
    }
}

#[test]
fn sums_over_rows_that_fill_a_binding() {
    for device in limited_devices("sums_over_rows_that_fill_a_binding") {
        for shape in [[3, 1_001], [257, 13], [5, 700], [1_025, 3], [300, 77], [7, 333]] {
            let x = random(&shape, 1);
            let on = |device: &Device, dtype| sum_rows(&to(device, dtype, &x)).unwrap();
            let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
            expect_near(
                &format!("sum_rows of {shape:?} on {device}"),
                &on(&device, DType::F32),
                &plain,
                &want,
            );
        }
    }
}

#[test]
fn norms_of_rows_that_fill_a_binding() {
    let devices = limited_devices("norms_of_rows_that_fill_a_binding");
    for [rows, d] in [[70, 15], [300, 14], [130, 9]] {
        let inputs = [random(&[rows, d], 1), random(&[d], 2), random(&[d], 3)];
        parity_on(&devices, "layer_norm in parts", |_| LayerNorm::new(1e-2), &inputs);
    }
}

#[test]
fn swiglu() {
    for len in LENGTHS {
        parity("swiglu", |_| SwiGlu, &[times(&random(&[len], 1), 20.0), random(&[len], 2)]);
    }
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Tanh,
];

#[test]
fn activation() {
    for activation in ACTIVATIONS {
        for factor in [0.1, 1.0, 8.0] {
            for len in [0, 1, 4097] {
                let name = format!("{activation:?}");
                parity(&name, |_| activation, &[times(&random(&[len], 1), factor)]);
            }
        }
    }
}

#[test]
fn activations_of_large_arguments_reach_their_limits() {
    for device in devices("activations_of_large_arguments_reach_their_limits") {
        let x = Tensor::from_slice(&device, &[-1e4f32, 1e4], &[2]).unwrap();
        for mut activation in ACTIVATIONS {
            let y = activation.forward(&[&x], false).unwrap().to_vec::<f32>().unwrap();
            let want = match activation {
                Activation::Tanh => [-1.0, 1.0],
                Activation::Sigmoid => [0.0, 1.0],
                _ => [0.0, 1e4],
            };
            assert_eq!(y, want, "{activation:?} on {device}");
        }
    }
}

#[test]
fn dropout_has_the_mask_of_the_cpu() {
    let x = random(&[70_001], 1);
    for (p, seed, counter) in [(0.1, 1, 2), (0.5, u64::MAX, 1 << 40), (0.97, 0x0123_4567_89ab_cdef, 0)] {
        let on = |device: &Device| {
            let x = to(device, DType::F32, &x);
            let y = Dropout { p, seed, counter }.forward(&[&x], false).unwrap();
            y.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let want = on(&Device::Cpu);
        for device in devices("dropout_has_the_mask_of_the_cpu") {
            assert!(on(&device) == want, "p {p} on {device}");
        }
    }
    for len in LENGTHS {
        parity("dropout", |_| Dropout { p: 0.3, seed: 5, counter: 7 }, &[random(&[len], 1)]);
    }
}

#[test]
fn td_loss() {
    for len in LENGTHS {
        let targets = random(&[len], 3);
        let on = |device: &Device, dtype| {
            let mut op = TdLoss { targets: to(device, dtype, &targets) };
            super::run(&mut op, &[to(device, dtype, &random(&[len], 1))], &[true])
        };
        let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
        for device in devices("td_loss") {
            let found = on(&device, DType::F32);
            let gradients = [&found, &plain, &want].map(|(_, grads)| grads[0].clone().unwrap());
            expect_near(&format!("td_loss on {device}"), &found.0, &plain.0, &want.0);
            let [found, plain, want] = gradients;
            expect_near(&format!("gradient of td_loss on {device}"), &found, &plain, &want);
        }
    }
}

#[test]
fn log_sigmoid() {
    for (n, k) in [(0, 2), (3, 0), (1, 1), (300, 1), (7, 13), (5, 64), (3, 777)] {
        let (p, q) = (times(&random(&[n], 1), 5.0), times(&random(&[n, k], 2), 5.0));
        parity("log_sigmoid", |_| PairLogSigmoid { margin: 0.3 }, &[p, q]);
    }
}

#[test]
fn sums_of_everything() {
    for len in LENGTHS {
        parity("sum", |_| Sum::new(), &[random(&[len], 1)]);
        if len > 0 {
            parity("mean", |_| Mean::new(), &[random(&[len], 1)]);
        }
    }
}

#[test]
fn long_sums_keep_their_precision() {
    // More than two passes.
    let data: Vec<f32> = (0..20_000_003u32).map(|i| (i % 1009) as f32 * 0.37 - 100.0).collect();
    let exact = data.iter().map(|&v| f64::from(v)).sum::<f64>();
    let size = data.iter().map(|&v| f64::from(v).abs()).sum::<f64>();
    for device in devices("long_sums_keep_their_precision") {
        let x = Tensor::from_slice(&device, &data, &[data.len()]).unwrap();
        let found = Sum::new().forward(&[&x], false).unwrap().item().unwrap();
        assert!((found - exact).abs() <= 3e-7 * size, "{device}: {found}, not {exact}");
    }
}

#[test]
fn dot_weights() {
    for len in LENGTHS {
        let weights = random(&[len], 3);
        let on = |device: &Device, dtype| {
            let mut op = DotWeights { weights: to(device, dtype, &weights) };
            super::run(&mut op, &[to(device, dtype, &random(&[len], 1))], &[true])
        };
        let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
        for device in devices("dot_weights") {
            let found = on(&device, DType::F32);
            let place = format!("dot_weights of {len} on {device}");
            let off = error(&found.0.to_f64_vec().unwrap(), &want.0.to_f64_vec().unwrap());
            assert!(off <= 3e-7 * len as f64, "{place}: off by {off:e}");
            let [found, plain, want] = [&found, &plain, &want].map(|(_, grads)| grads[0].clone().unwrap());
            expect_near(&place, &found, &plain, &want);
        }
    }
}

#[test]
fn concat_rows() {
    for d in [1, 3, 64] {
        let part = |rows, seed| random(&[rows, d], seed);
        parity("concat_rows", |_| ConcatRows::new(), &[part(1, 1), part(4, 2), part(0, 3), part(2, 4)]);
        parity("concat_rows", |_| ConcatRows::new(), &[part(3, 1)]);
    }
}

#[test]
fn l2_normalize() {
    for [rows, d] in SHAPES {
        parity("l2_normalize", |_| L2Normalize::new(1e-8), &[random(&[rows, d], 1)]);
    }
    // Rows shorter than eps: a constant divisor.
    parity("l2_normalize", |_| L2Normalize::new(100.0), &[random(&[3, 5], 1)]);
}

#[test]
fn layer_norm() {
    for [rows, d] in SHAPES {
        let inputs = [random(&[rows, d], 1), random(&[d], 2), random(&[d], 3)];
        parity("layer_norm", |_| LayerNorm::new(1e-2), &inputs);
    }
}
