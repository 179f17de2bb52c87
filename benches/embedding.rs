//! Gather of embedding rows on the CPU in f32, and the scatter-add of their gradients. Bound by memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::{Param, apply, backward};
use lea::device::Device;
use lea::ops::{DotWeights, Embedding, Op, Reshape};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows read, and rows of the word and the item table.
const ROWS: usize = 16_384;
const TABLES: [usize; 2] = [8192, 20_000];
const WIDTH: usize = 288;

fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_slice(&Device::Cpu, &data, shape).expect("the length fits the shape")
}

fn bench(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let ids: Vec<u32> = (0..ROWS).map(|_| rng.random_range(0..(TABLES[0] + TABLES[1]) as u32)).collect();
    let ids = Tensor::from_ids(&Device::Cpu, &ids).expect("ids fit");
    let [words, items] = TABLES.map(|rows| random(&mut rng, &[rows, WIDTH]));
    let mut group = c.benchmark_group(format!("embedding/{ROWS}x{WIDTH}"));
    group.throughput(Throughput::Bytes(Embedding::new(ids.clone()).cost(&[&words, &items]).bytes));
    group.bench_function("forward", |b| {
        b.iter(|| Embedding::new(ids.clone()).forward(&[&words, &items], false).expect("ids in range"));
    });
    let (words, items) = (Param::frozen("words", words), Param::trainable("items", items));
    let weights = random(&mut rng, &[ROWS * WIDTH]);
    let step = || {
        let y = apply(Embedding::new(ids.clone()), &[&words.var(), &items.var()])?;
        let y = apply(Reshape::new(weights.shape()), &[&y])?;
        backward(&apply(DotWeights { weights: weights.clone() }, &[&y])?)
    };
    group.bench_function("forward and backward to the items", |b| b.iter(|| step().expect("ids in range")));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
