//! RMS norm on the CPU in f32, forward and forward with backward. Bound by memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::{Param, apply, backward};
use lea::device::{DType, Device};
use lea::ops::{DotWeights, Op, Reshape, RmsNorm};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
    Tensor::from_slice(&Device::Cpu, &data, shape).expect("the length fits the shape")
}

fn bench(c: &mut Criterion) {
    for [rows, d] in [[4096, 288], [1024, 2048]] {
        let x = random(&[rows, d], 1);
        let weight = Tensor::full(&Device::Cpu, DType::F32, &[d], 1.0).expect("a float type");
        let mut group = c.benchmark_group(format!("rms_norm/{rows}x{d}"));
        group.throughput(Throughput::Bytes(RmsNorm::new(1e-5).cost(&[&x, &weight]).bytes));
        group.bench_function("forward", |b| {
            b.iter(|| RmsNorm::new(1e-5).forward(&[&x, &weight], false).expect("shapes agree"));
        });
        let params = [Param::trainable("x", x), Param::trainable("weight", weight)];
        let weights = random(&[rows * d], 2);
        let step = || {
            let y = apply(RmsNorm::new(1e-5), &[&params[0].var(), &params[1].var()])?;
            let y = apply(Reshape::new(weights.shape()), &[&y])?;
            backward(&apply(DotWeights { weights: weights.clone() }, &[&y])?)
        };
        group.bench_function("forward and backward", |b| b.iter(|| step().expect("shapes agree")));
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
