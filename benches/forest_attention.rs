//! Forest attention, f32: leaves of one token against resident trunks as in the labelling pass (6 heads of 48, history
//! 50, 20 and 100 candidates a step), and packed causal batches forward, one of them through a window. Throughput counts
//! useful FLOPs only.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lea::autograd::gradcheck;
use lea::device::{DType, Device};
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use lea::ops::{ForestAttention, Op};
use lea::tensor::Tensor;
use std::hint::black_box;
use std::sync::Arc;

const HEADS: usize = 6;
const HEAD_DIM: usize = 48;
const HISTORY: u32 = 50;

fn random(rows: usize, seed: u64) -> Tensor {
    let shape = [rows, HEADS * HEAD_DIM];
    let data = gradcheck::random(&shape, seed).to_f64_vec().expect("f64");
    Tensor::from_f64(&Device::Cpu, DType::F32, &data, &shape).expect("shape")
}

/// Every candidate of every step: it sees the trunk up to its step, and itself.
fn leaves(candidates: u32) -> AttentionIndex {
    let ranges = (0..HISTORY * candidates).map(|i| {
        let own = HISTORY + i;
        RowRanges([(0, 0), (0, i / candidates + 1), (0, 0), (own, own + 1)])
    });
    AttentionIndex::new(ranges.collect(), (HISTORY + HISTORY * candidates) as usize).expect("index")
}

fn bench(c: &mut Criterion, name: String, index: AttentionIndex) {
    let index = Arc::new(index);
    let (q, k, v) = (random(index.rows(), 1), random(index.keys(), 2), random(index.keys(), 3));
    let mut op = ForestAttention::new(index, HEADS, HEADS, HEAD_DIM, 0.144);
    let flops = op.cost(&[&q, &k, &v]).flops;
    let mut group = c.benchmark_group("forest_attention 6x48 f32");
    group.throughput(Throughput::Elements(flops)).sample_size(20);
    group.bench_with_input(BenchmarkId::from_parameter(name), &(), |b, ()| {
        b.iter(|| op.forward(black_box(&[&q, &k, &v]), false));
    });
    group.finish();
}

fn forward(c: &mut Criterion) {
    for candidates in [20, 100] {
        bench(c, format!("history 50, {candidates} candidates"), leaves(candidates));
    }
    bench(c, "causal 64 x 64".into(), AttentionIndex::causal(&[64; 64]).expect("index"));
    // As in a decoder with a sliding window; apart, every row deeper than the window is a tile of its own.
    let deep = AttentionIndex::causal(&[200; 16]).expect("index").windowed(32).expect("index");
    let apart = AttentionIndex::new(deep.ranges().to_vec(), deep.keys()).expect("index");
    bench(c, "causal 200 x 16, window 32".into(), deep);
    bench(c, "causal 200 x 16, window 32, rows apart".into(), apart);
}

criterion_group!(benches, forward);
criterion_main!(benches);
