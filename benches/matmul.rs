//! Products x·Wᵀ in f32 of the shapes that dominate: the feed-forward part of a decoder with hidden width 288, logits
//! of a recommender over 5000 items, a GRU's step, and a few rows only. Throughput counts FLOPs.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::gradcheck;
use lea::device::{DType, Device};
use lea::ops::matmul::{cost, matmul};
use lea::tensor::Tensor;
use std::hint::black_box;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let data = gradcheck::random(shape, seed).to_f64_vec().expect("f64");
    Tensor::from_f64(&Device::Cpu, DType::F32, &data, shape).expect("shape")
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul f32");
    for (m, n, k) in [(4096, 768, 288), (2000, 5000, 64), (256, 192, 64), (8, 288, 288)] {
        let (a, b) = (random(&[m, k], 1), random(&[n, k], 2));
        group.throughput(Throughput::Elements(cost(m, n, k, 4).flops)).sample_size(20);
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{n}x{k}")), |bencher| {
            bencher.iter(|| matmul(black_box(&a), &b, false, true));
        });
    }
    group.finish();
}

criterion_group!(benches, products);
criterion_main!(benches);
