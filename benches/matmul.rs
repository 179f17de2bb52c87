//! Products x·Wᵀ in f32, and with W in bf16, of the shapes that dominate: the feed-forward part of a decoder with hidden width 288, logits
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
    for (m, n, k) in [(4096, 768, 288), (2048, 2048, 2048), (2000, 5000, 64), (256, 192, 64), (8, 288, 288)] {
        let (a, b) = (random(&[m, k], 1), random(&[n, k], 2));
        group.throughput(Throughput::Elements(cost(m, n, k, 4).flops)).sample_size(20);
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{n}x{k}")), |bencher| {
            bencher.iter(|| matmul(black_box(&a), &b, false, true));
        });
    }
    group.finish();
}

fn products_with_bf16(c: &mut Criterion) {
    use lea::device::cpu::matmul::Terms;
    use lea::device::cpu::matmul_bf16::{Left, Weight, matmul};
    let mut group = c.benchmark_group("matmul bf16");
    for (m, n, k) in [(4096, 768, 288), (2048, 2048, 2048), (256, 192, 64), (8, 288, 288)] {
        let x: Vec<f32> = random(&[m, k], 1).to_vec().expect("f32");
        let w: Vec<f32> = random(&[n, k], 2).to_vec().expect("f32");
        let w: Vec<half::bf16> = w.into_iter().map(half::bf16::from_f32).collect();
        let mut y = vec![0.0; m * n];
        group.throughput(Throughput::Elements(cost(m, n, k, 4).flops)).sample_size(20);
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{n}x{k}")), |bencher| {
            let (x, w) = (Left::F32(&x), Weight::new(&w));
            bencher.iter(|| matmul(black_box(x), w, &mut y, [n, k], Terms::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, products, products_with_bf16);
criterion_main!(benches);
