//! Tensors longer than a binding come in parts: every op but those of `ops/attention` and `ops/products`, which have tests of
//! their own, on bindings of 1 MiB with tensors of more.

use super::{parity_on, random, skip, to};
use lea::device::webgpu::adapter::{self, Pretence};
use lea::device::webgpu::{Gpu, Traced};
use lea::device::{DType, Device};
use lea::ops::adamw::{AdamWStep, adamw_step, squared_norms};
use lea::ops::add::{Add, sum_rows};
use lea::ops::clip_norm::GradScale;
use lea::ops::forest_attention::AttentionIndex;
use lea::ops::{
    Activation, ConcatRows, CrossEntropy, DotWeights, Dropout, Embedding, ForestAttention, GatherDot, Gru,
    InfoNce, L2Normalize, LayerNorm, Mean, MeanRows, Mul, NormScore, Op, PairLogSigmoid, RmsNorm, Rope,
    RopeTable, Scale, SequenceLayout, SubRow, Sum, SwiGlu, TdLoss, retrieve, top_k,
};
use lea::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Bytes of a binding.
const BINDING: u64 = 1 << 20;
/// Elements of a vector that is longer, and ends amid a part.
const LEN: usize = 600_001;
/// Rows and columns of a matrix that is.
const ROWS: usize = 4_111;
const COLUMNS: usize = 77;

fn devices(test: &str) -> Vec<Device> {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    let open = |found: adapter::Description| {
        let pretence = Pretence { binding_bytes: Some(BINDING), nan_scratch: true, ..Pretence::default() };
        Device::WebGpu(adapter::open_as(found.index, found.tier(), pretence).unwrap())
    };
    let devices = DEVICES.get_or_init(|| adapter::list().into_iter().map(open).collect());
    if devices.is_empty() {
        skip::skipped(format_args!("{test}: there is no WebGPU adapter"));
    }
    devices.clone()
}

fn parity<O: Op>(what: &str, make: impl Fn(&Device) -> O, inputs: &[Tensor]) {
    let longest = inputs.iter().map(|x| 4 * x.len() as u64).max();
    assert!(longest > Some(BINDING), "{what} has no part");
    parity_on(&devices(what), what, make, inputs);
}

fn ids(device: &Device, shape: &[usize], below: usize) -> Tensor {
    let list: Vec<u32> = (0..shape.iter().product()).map(|i: usize| (i * 7919 % below) as u32).collect();
    Tensor::from_slice(device, &list, shape).unwrap()
}

#[test]
fn elementwise_ops() {
    let [x, y] = [1, 2].map(|seed| random(&[LEN], seed));
    parity("add", |_| Add, &[x.clone(), y.clone()]);
    parity("mul", |_| Mul, &[x.clone(), y.clone()]);
    parity("swiglu", |_| SwiGlu, &[x.clone(), y.clone()]);
    parity("scale", |_| Scale(-0.3), std::slice::from_ref(&x));
    parity("activation", |_| Activation::Tanh, std::slice::from_ref(&x));
    parity("dropout", |_| Dropout { p: 0.3, seed: 5, counter: 7 }, std::slice::from_ref(&x));
}

#[test]
fn sums_of_everything() {
    let x = random(&[LEN], 1);
    parity("sum", |_| Sum::new(), std::slice::from_ref(&x));
    parity("mean", |_| Mean::new(), std::slice::from_ref(&x));
    let want = x.to_f64_vec().unwrap().iter().map(|v| v * v).sum::<f64>();
    for device in devices("squared norms in parts") {
        let found = squared_norms(&[&to(&device, DType::F32, &x)]).unwrap()[0];
        assert!((found - want).abs() <= 1e-6 * want, "{found}, not {want}, on {}", device.describe());
    }
}

/// Ops that take a second tensor beside their inputs: it has the type and the device of the inputs.
#[test]
fn losses_against_targets_and_weights() {
    let [x, given] = [1, 2].map(|seed| random(&[LEN], seed));
    let run = |device: &Device, dtype| {
        let (x, given) = (to(device, dtype, &x), to(device, dtype, &given));
        let (td, td_grads) =
            super::run(&mut TdLoss { targets: given.clone() }, std::slice::from_ref(&x), &[true]);
        let (dot, dot_grads) = super::run(&mut DotWeights { weights: given }, &[x], &[true]);
        [td, td_grads[0].clone().unwrap(), dot, dot_grads[0].clone().unwrap()]
    };
    let (want, plain) = (run(&Device::Cpu, DType::F64), run(&Device::Cpu, DType::F32));
    for device in devices("losses against targets in parts") {
        let found = run(&device, DType::F32);
        for (i, ((found, plain), want)) in found.iter().zip(&plain).zip(&want).enumerate() {
            // The sum over all elements rounds with their number, whatever the CPU's error is.
            let slack = if i == 2 { 3e-7 * LEN as f64 } else { 0.0 };
            let [f, p, w] = [found, plain, want].map(|t| t.to_f64_vec().unwrap());
            let allowed = slack + 2.0 * super::error(&p, &w) + 1e-6;
            assert!(super::error(&f, &w) <= allowed, "result {i} on {}", device.describe());
        }
    }
}

#[test]
fn ops_over_rows() {
    let (x, row) = (random(&[ROWS, COLUMNS], 1), |seed| random(&[COLUMNS], seed));
    parity("sub_row", |_| SubRow, &[x.clone(), row(2)]);
    parity("mean_rows", |_| MeanRows::new(), std::slice::from_ref(&x));
    parity("l2_normalize", |_| L2Normalize::new(1e-8), std::slice::from_ref(&x));
    parity("concat_rows", |_| ConcatRows::new(), &[x.clone(), random(&[3, COLUMNS], 2), x.clone()]);
    let on = |device: &Device, dtype| sum_rows(&to(device, dtype, &x)).unwrap();
    let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
    for device in devices("sum_rows in parts") {
        super::expect_near("sum_rows in parts", &on(&device, DType::F32), &plain, &want);
    }
}

#[test]
fn norms() {
    let (x, row) = (random(&[ROWS, COLUMNS], 1), |seed| random(&[COLUMNS], seed));
    parity("rms_norm", |_| RmsNorm::new(1e-5), &[x.clone(), row(2)]);
    parity("layer_norm", |_| LayerNorm::new(1e-2), &[x.clone(), row(2), row(3)]);
    parity("norm_score", |_| NormScore::new(1e-5), &[x, row(2), row(3)]);
}

#[test]
fn rope() {
    let table = Arc::new(RopeTable::plain(10_000.0, 20).unwrap());
    let make = |device: &Device| Rope::new(ids(device, &[ROWS], 300), table.clone(), 4);
    parity("rope", make, &[random(&[ROWS, 80], 1)]);
}

#[test]
fn log_sigmoid() {
    let n = 40_001;
    parity("log_sigmoid", |_| PairLogSigmoid { margin: 0.3 }, &[random(&[n], 1), random(&[n, 9], 2)]);
}

#[test]
fn adamw() {
    let step = AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.3, step: 1 };
    let run = |device: &Device, dtype| {
        let zeros = || Tensor::zeros(device, dtype, &[LEN]).unwrap();
        let (mut param, mut m, mut v) = (to(device, dtype, &random(&[LEN], 1)), zeros(), zeros());
        let grad = to(device, dtype, &random(&[LEN], 2));
        let scale = Tensor::from_f64(device, dtype, &[0.5], &[1]).unwrap();
        adamw_step(&mut param, &mut m, &mut v, &grad, &step, GradScale::Device(&scale)).unwrap();
        [param, m, v]
    };
    let (want, plain) = (run(&Device::Cpu, DType::F64), run(&Device::Cpu, DType::F32));
    for device in devices("adamw in parts") {
        let found = run(&device, DType::F32);
        for ((found, plain), want) in found.iter().zip(&plain).zip(&want) {
            super::expect_near("adamw in parts", found, plain, want);
        }
    }
}

#[test]
fn look_ups() {
    let x = random(&[ROWS, COLUMNS], 1);
    parity("embedding", |device| Embedding::new(ids(device, &[5000], ROWS)), std::slice::from_ref(&x));
    let make = |device: &Device| GatherDot::new(ids(device, &[ROWS, 3], ROWS));
    parity("gather_dot", make, &[x.clone(), random(&[ROWS, COLUMNS], 2), random(&[ROWS], 3)]);
}

/// More ids than a binding holds: forward alone, for the gradient needs all places of a row at once.
#[test]
fn rows_of_many_ids() {
    let (n, x) = (300_007, random(&[50, 3], 1));
    assert!((4 * n) as u64 > BINDING);
    let on = |device: &Device| {
        let x = to(device, DType::F32, &x);
        Embedding::new(ids(device, &[n], 50)).forward(&[&x], false).unwrap().to_vec::<f32>().unwrap()
    };
    let want = on(&Device::Cpu);
    for device in devices("rows of many ids") {
        assert!(on(&device) == want, "{}", device.describe());
    }
}

/// More choices than a binding holds, with a bias and without one.
#[test]
fn dots_with_many_choices() {
    let (n, k, v) = (3_001, 100, 50);
    assert!((4 * n * k) as u64 > BINDING);
    let inputs = [random(&[n, 5], 1), random(&[v, 5], 2), random(&[v], 3)];
    // The gradient of x alone: that of the table needs all places of a row at once.
    let needs = [true, false, false];
    for count in [2, 3] {
        let on = |device: &Device, dtype| {
            let inputs: Vec<Tensor> = inputs[..count].iter().map(|x| to(device, dtype, x)).collect();
            let (y, grads) =
                super::run(&mut GatherDot::new(ids(device, &[n, k], v)), &inputs, &needs[..count]);
            [y, grads[0].clone().unwrap()]
        };
        let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
        for device in devices("dots with many choices") {
            let found = on(&device, DType::F32);
            for ((found, plain), want) in found.iter().zip(&plain).zip(&want) {
                super::expect_near(&format!("gather_dot of {count} inputs"), found, plain, want);
            }
        }
    }
}

#[test]
fn losses_over_rows_of_scores() {
    let x = random(&[701, 450], 1);
    let make = |device: &Device| CrossEntropy::new(ids(device, &[701], 450));
    parity("cross_entropy", make, std::slice::from_ref(&x));
    let kept = |device: &Device| Tensor::from_slice(device, &vec![1u32; 701 * 450], &[701, 450]).unwrap();
    let make = |device: &Device| InfoNce::new(ids(device, &[701], 450), 0.1, Some(kept(device)));
    parity("info_nce", make, &[x]);
}

/// Results of ops and the launches that made them; ids are few, so that each has places in many parts.
fn traced(gpu: &Gpu) -> (Vec<Vec<u32>>, Vec<Traced>) {
    const ROWS: usize = 1_500;
    let device = &Device::WebGpu(gpu.clone());
    let put = |shape: &[usize], seed| to(device, DType::F32, &random(shape, seed));
    let lists = |shape: &[usize], below| ids(device, shape, below);
    let mut found = Vec::new();
    let work = || {
        let mut keep = |op: &mut dyn Op, inputs: &[Tensor]| {
            let (y, grads) = super::run(op, inputs, &vec![true; inputs.len()]);
            found.extend([y].into_iter().chain(grads.into_iter().flatten()));
        };
        let (x, table, row) = (put(&[ROWS, 33], 1), put(&[70, 33], 3), |seed| put(&[33], seed));
        let one = std::slice::from_ref(&x);
        keep(&mut Embedding::new(lists(&[ROWS], 7)), std::slice::from_ref(&table));
        keep(&mut GatherDot::new(lists(&[ROWS, 5], 9)), &[x.clone(), table, put(&[70], 4)]);
        keep(&mut CrossEntropy::new(lists(&[ROWS], 33)), one);
        keep(&mut LayerNorm::new(1e-5), &[x.clone(), row(5), row(6)]);
        keep(&mut RmsNorm::new(1e-5), &[x.clone(), row(5)]);
        keep(&mut NormScore::new(1e-5), &[x.clone(), row(5), row(6)]);
        keep(&mut L2Normalize::new(1e-8), one);
        keep(&mut SubRow, &[x.clone(), row(5)]);
        keep(&mut MeanRows::new(), one);
        keep(&mut Mul, &[x.clone(), x.clone()]);
        keep(&mut SwiGlu, &[x.clone(), x.clone()]);
        keep(&mut Scale(-0.3), one);
        keep(&mut Activation::Tanh, one);
        keep(&mut Dropout { p: 0.3, seed: 5, counter: 7 }, one);
        keep(&mut PairLogSigmoid { margin: 0.3 }, &[put(&[5 * ROWS], 1), put(&[5 * ROWS, 9], 2)]);
        // More than 64 blocks of the kernels that add all elements up.
        let [long, given] = [1, 2].map(|seed| put(&[300_000], seed));
        keep(&mut TdLoss { targets: given.clone() }, std::slice::from_ref(&long));
        keep(&mut Sum::new(), std::slice::from_ref(&long));
        keep(&mut DotWeights { weights: given }, &[long]);
        let angles = Arc::new(RopeTable::plain(10_000.0, 20).unwrap());
        keep(&mut Rope::new(lists(&[ROWS], 300), angles, 2), &[put(&[ROWS, 40], 1)]);
        let lengths: Vec<usize> = (0..400).map(|i| i * 7 % 12).collect();
        let layout = Arc::new(SequenceLayout::new(&lengths).unwrap());
        let gates = put(&[layout.rows(), 60], 1);
        keep(&mut Gru::new(layout), &[gates, put(&[60, 20], 2), put(&[60], 3)]);
        let index = Arc::new(AttentionIndex::causal(&[700, 800]).unwrap());
        let heads = [(4, 1), (2, 2), (2, 3)].map(|(heads, seed)| put(&[ROWS, heads * 7], seed));
        keep(&mut ForestAttention::new(index, 4, 2, 7, 0.4), &heads);
        found.push(sum_rows(&x)?);
        found.push(top_k(&x, 4)?.0);
        Ok(())
    };
    let ((), launches) = gpu.traced(work).unwrap();
    let bits = |t: &Tensor| t.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    (found.iter().map(bits).collect(), launches)
}

/// Kernels that are not cut by the elements that they visit. `docs/devices.md` tells of them.
fn is_cut_otherwise(shader: &str, entry: &str) -> bool {
    let inner = !["backward_stats", "set_width"].contains(&entry);
    shader.starts_with("matmul")
        || (shader.starts_with("forest_attention") && inner)
        || (shader, entry) == ("gru", "forward")
        || (shader, entry) == ("gru", "backward")
}

/// Work is bounded too, where everything fits a binding: more dispatches of every kernel, and the same bits.
#[test]
fn a_dispatch_of_bounded_work_changes_no_bit() {
    let count = |launches: &[Traced]| {
        let mut counts = BTreeMap::new();
        for launch in launches.iter().filter(|launch| !is_cut_otherwise(launch.shader, launch.entry)) {
            *counts.entry((launch.shader, launch.entry)).or_insert(0) += 1;
        }
        counts
    };
    for found in adapter::list() {
        let open = |dispatch_elements| {
            let pretence = Pretence { dispatch_elements, nan_scratch: true, ..Pretence::default() };
            adapter::open_as(found.index, found.tier(), pretence).unwrap()
        };
        let (whole, launches) = traced(&open(None));
        let few = count(&launches);
        assert!(few.len() > 40, "{} kernels ran", few.len());
        for elements in [20_000, 3_000] {
            let (cut, launches) = traced(&open(Some(elements)));
            let many = count(&launches);
            let uncut: Vec<_> = few.iter().filter(|(kernel, count)| many[kernel] <= **count).collect();
            assert!(uncut.is_empty(), "{}: not cut to {elements} elements: {uncut:?}", found.info.name);
            assert!(cut == whole, "{}: other bits by {elements} elements a dispatch", found.info.name);
        }
    }
}

/// What is handed over at once is bounded by the bytes that it moves too: sums of two vectors compute next to nothing.
#[test]
fn launches_that_move_much_are_handed_over_early() {
    const LEN: usize = 1 << 23;
    for found in adapter::list() {
        for (hardware, want) in [(false, 0), (true, 1)] {
            let pretence = Pretence { hardware, ..Pretence::default() };
            let gpu = adapter::open_as(found.index, found.tier(), pretence).unwrap();
            let device = Device::WebGpu(gpu.clone());
            let x = Tensor::zeros(&device, DType::F32, &[LEN]).unwrap();
            let before = gpu.counters();
            // 96 MiB each.
            for _ in 0..12 {
                Add.forward(&[&x, &x], false).unwrap();
            }
            let since = gpu.counters().since(before);
            assert_eq!((since.dispatches, since.submits), (12, want), "{}, as hardware: {hardware}", gpu);
        }
    }
}

/// Parts start where a binding may, every 64 rows at most; rows so wide that as many do not fit are refused.
#[test]
fn rows_too_wide_for_a_part_are_refused_with_what_to_do() {
    for device in devices("rows too wide for a part") {
        let x = to(&device, DType::F32, &random(&[2, 200_001], 1));
        let error = L2Normalize::new(1e-8).forward(&[&x], false).unwrap_err().to_string();
        assert!(error.contains("rows of 800004 bytes") && error.contains("fewer columns"), "{error}");
        assert!(error.contains("which shows 1048576 bytes"), "{error}");
    }
}

/// What a recurrence keeps of its steps is bound whole: an error says so before anything runs.
#[test]
fn a_recurrence_that_is_longer_than_a_binding_is_refused_with_what_to_do() {
    let lengths: Vec<usize> = (0..900).map(|i| i * 7 % 12).collect();
    let layout = Arc::new(SequenceLayout::new(&lengths).unwrap());
    for device in devices("a recurrence longer than a binding") {
        let put = |shape: &[usize], seed| to(&device, DType::F32, &random(shape, seed));
        let (gates, w, bias) = (put(&[layout.rows(), 60], 1), put(&[60, 20], 2), put(&[60], 3));
        let error = Gru::new(layout.clone()).forward(&[&gates, &w, &bias], true).unwrap_err().to_string();
        assert!(error.contains("gru") && error.contains("train with smaller batches"), "{error}");
        // The device goes on.
        assert_eq!(bias.to_vec::<f32>().unwrap().len(), 60);
    }
}

#[test]
fn searches() {
    let host =
        |(values, ids): (Tensor, Tensor)| (values.to_vec::<f32>().unwrap(), ids.to_vec::<u32>().unwrap());
    // Multiples of 1/8: the products of a search are exact in any order.
    let put = |device: &Device, shape: &[usize], seed| {
        let data = random(shape, seed).to_f64_vec().unwrap();
        let data: Vec<f32> = data.iter().map(|v| (v * 8.0).round() as f32 / 8.0).collect();
        Tensor::from_slice(device, &data, shape).unwrap()
    };
    let best = |device: &Device| host(top_k(&put(device, &[ROWS, COLUMNS], 1), 9).unwrap());
    let near = |device: &Device| {
        let [x, table] = [2, 3].map(|seed| put(device, &[ROWS, COLUMNS], seed));
        host(retrieve(&x.rows(0..300).unwrap(), &table, None, 5, &[]).unwrap())
    };
    let (want_best, want_near) = (best(&Device::Cpu), near(&Device::Cpu));
    for device in devices("searches in parts") {
        assert!(best(&device) == want_best, "top_k on {}", device.describe());
        assert!(near(&device) == want_near, "retrieve on {}", device.describe());
    }
}
