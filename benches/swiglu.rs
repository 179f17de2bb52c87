//! SwiGLU on the CPU in f32. Memory bounds it, so the product of two tensors, which moves the same bytes, is the
//! mark to reach.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::{Param, apply, backward};
use lea::device::Device;
use lea::ops::{DotWeights, Mul, Op, Reshape, SwiGlu};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows and width of the tiny decoder's feed-forward layer.
const SHAPE: [usize; 2] = [4096, 768];

fn random(seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|_| rng.random_range(-4.0..4.0)).collect();
    Tensor::from_slice(&Device::Cpu, &data, &SHAPE).expect("the length fits the shape")
}

fn bench(c: &mut Criterion) {
    let (gate, up) = (random(1), random(2));
    let inputs = [&gate, &up];
    let mut group = c.benchmark_group("swiglu/4096x768");
    group.throughput(Throughput::Bytes(SwiGlu.cost(&inputs).bytes));
    group.bench_function("forward", |b| b.iter(|| SwiGlu.forward(&inputs, false).expect("shapes agree")));
    group.bench_function("product of the same size", |b| {
        b.iter(|| Mul.forward(&inputs, false).expect("shapes agree"));
    });
    let params = [Param::trainable("gate", gate.clone()), Param::trainable("up", up.clone())];
    let weights = random(3).reshape(&[SHAPE[0] * SHAPE[1]]).expect("one length");
    let step = || {
        let y = apply(SwiGlu, &[&params[0].var(), &params[1].var()])?;
        let y = apply(Reshape::new(weights.shape()), &[&y])?;
        backward(&apply(DotWeights { weights: weights.clone() }, &[&y])?)
    };
    group.bench_function("forward and backward", |b| b.iter(|| step().expect("shapes agree")));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
