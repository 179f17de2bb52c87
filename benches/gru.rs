//! GRU over 256 packed sequences of 2 to 10 rows, width 64, f32. Throughput counts FLOPs of the forward pass.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::{Var, apply, gradcheck, no_grad};
use lea::device::{DType, Device};
use lea::ops::{Gru, Op, Saved, SequenceLayout};
use lea::tensor::Tensor;
use std::hint::black_box;
use std::sync::Arc;

const WIDTH: usize = 64;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let data = gradcheck::random(shape, seed).to_f64_vec().expect("f64");
    Tensor::from_f64(&Device::Cpu, DType::F32, &data, shape).expect("shape")
}

fn gru(c: &mut Criterion) {
    let lengths: Vec<usize> = (0..256).map(|i| 2 + i * 5 % 9).collect();
    let layout = Arc::new(SequenceLayout::new(&lengths).expect("few rows"));
    let rows = layout.rows();
    let inputs = [random(&[rows, 3 * WIDTH], 1), random(&[3 * WIDTH, WIDTH], 2), random(&[3 * WIDTH], 3)];
    let cost = Gru::new(layout.clone()).cost(&inputs.each_ref());
    let mut group = c.benchmark_group(format!("gru {rows} rows of 256 sequences, width 64, f32"));
    group.throughput(Throughput::Elements(cost.flops)).sample_size(30);
    let vars = inputs.clone().map(Var::constant);
    group.bench_function("forward", |b| {
        b.iter(|| no_grad(|| apply(Gru::new(layout.clone()), black_box(&vars.each_ref()))));
    });

    let mut recorded = Gru::new(layout.clone());
    recorded.forward(&inputs.each_ref(), true).expect("forward");
    let grad = random(&[rows, WIDTH], 4);
    let kept = inputs.map(Some);
    let saved = Saved::new(&kept, None, &[true; 3]);
    group.bench_function("backward", |b| b.iter(|| recorded.backward(&saved, black_box(&grad))));
    group.finish();
}

criterion_group!(benches, gru);
criterion_main!(benches);
