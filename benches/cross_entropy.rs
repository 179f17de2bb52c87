//! Softmax cross-entropy over a full catalogue: 2000 rows of 5000 logits, f32. Throughput counts logits.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::{Var, apply, gradcheck, no_grad};
use lea::device::{DType, Device};
use lea::ops::{CrossEntropy, Op, Saved};
use lea::tensor::Tensor;
use std::hint::black_box;

const ROWS: usize = 2000;
const ITEMS: usize = 5000;

fn cross_entropy(c: &mut Criterion) {
    let data = gradcheck::random(&[ROWS, ITEMS], 1).to_f64_vec().expect("f64");
    let x = Tensor::from_f64(&Device::Cpu, DType::F32, &data, &[ROWS, ITEMS]).expect("shape");
    let targets: Vec<u32> = (0..ROWS as u32).map(|i| i * 7 % ITEMS as u32).collect();
    let op = || CrossEntropy::new(Tensor::from_ids(&Device::Cpu, &targets).expect("ids"));
    let mut group = c.benchmark_group("cross_entropy 2000x5000 f32");
    group.throughput(Throughput::Elements((ROWS * ITEMS) as u64)).sample_size(20);
    let constant = Var::constant(x.clone());
    group.bench_function("forward", |b| b.iter(|| no_grad(|| apply(op(), &[black_box(&constant)]))));

    let mut recorded = op();
    let losses = recorded.forward(&[&x], true).expect("forward");
    let ones = Tensor::full(&Device::Cpu, DType::F32, losses.shape(), 1.0).expect("shape");
    let inputs = [Some(x)];
    let saved = Saved::new(&inputs, None, &[true]);
    group.bench_function("backward", |b| b.iter(|| recorded.backward(&saved, black_box(&ones))));
    group.finish();
}

criterion_group!(benches, cross_entropy);
criterion_main!(benches);
