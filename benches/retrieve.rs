//! The best of 5000 items by dot product for 2000 rows of width 64, f32: k = 1 (argmax of double Q-learning), k = 100
//! (candidates of the labelling pass), k = 5000 (the whole catalogue). Throughput counts FLOPs of the products.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::gradcheck;
use lea::device::{DType, Device};
use lea::ops::retrieve;
use lea::tensor::Tensor;
use std::hint::black_box;

const ROWS: usize = 2000;
const ITEMS: usize = 5000;
const WIDTH: usize = 64;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let data = gradcheck::random(shape, seed).to_f64_vec().expect("f64");
    Tensor::from_f64(&Device::Cpu, DType::F32, &data, shape).expect("shape")
}

fn best_of_catalogue(c: &mut Criterion) {
    let (x, table) = (random(&[ROWS, WIDTH], 1), random(&[ITEMS, WIDTH], 2));
    let seen: Vec<Vec<u32>> = (0..ROWS as u32).map(|i| (0..20).map(|j| i + j * 100).collect()).collect();
    let mut group = c.benchmark_group("retrieve 2000x64 of 5000 f32");
    group.throughput(Throughput::Elements((2 * ROWS * ITEMS * WIDTH) as u64)).sample_size(20);
    for k in [1, 100, ITEMS] {
        group.bench_with_input(BenchmarkId::from_parameter(k), &k, |b, &k| {
            b.iter(|| retrieve(black_box(&x), &table, None, k, &seen));
        });
    }
    group.finish();
}

criterion_group!(benches, best_of_catalogue);
criterion_main!(benches);
