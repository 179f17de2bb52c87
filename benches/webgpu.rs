//! WebGPU kernels on every adapter of the machine, forward, from the first launch to the end of the last: products, and
//! forest attention as in the labelling pass (6 heads of 48, history 50, 100 candidates a step). Median of the
//! repetitions after one to warm up; GFLOP/s count useful FLOPs only. Then both in turn, for their ratio. `-- NAME` keeps
//! adapters with NAME in theirs.

use lea::autograd::gradcheck;
use lea::device::webgpu::{Gpu, adapter};
use lea::device::{DType, Device};
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use lea::ops::matmul::{cost, matmul};
use lea::ops::{ForestAttention, Op};
use lea::tensor::Tensor;
use std::sync::Arc;
use std::time::Instant;

const REPETITIONS: usize = 5;
/// Pairs of runs for the ratio.
const SHARES: usize = 21;
const HEADS: usize = 6;
const HEAD_DIM: usize = 48;
const HISTORY: u32 = 50;
const CANDIDATES: u32 = 100;

fn random(device: &Device, shape: &[usize], seed: u64) -> Tensor {
    let data = gradcheck::random(shape, seed).to_f64_vec().expect("f64");
    Tensor::from_f64(device, DType::F32, &data, shape).expect("shape")
}

/// Seconds of `work`.
fn once(gpu: &Gpu, work: &mut dyn FnMut() -> Tensor) -> f64 {
    let start = Instant::now();
    let kept = work();
    gpu.flush().expect("flush");
    gpu.wait().expect("wait");
    drop(kept);
    start.elapsed().as_secs_f64()
}

/// Median seconds of `work`.
fn median(gpu: &Gpu, mut work: impl FnMut() -> Tensor) -> f64 {
    once(gpu, &mut work);
    let mut seconds: Vec<f64> = (0..REPETITIONS).map(|_| once(gpu, &mut work)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[REPETITIONS / 2]
}

fn row(name: &str, flops: u64, seconds: f64) {
    println!("| {name} | {:.1} | {:.2} |", seconds * 1e3, flops as f64 / seconds / 1e9);
}

fn products(device: &Device, gpu: &Gpu) {
    for (extent, transposed) in [(512, false), (512, true), (1024, true), (2048, false), (2048, true)] {
        let (a, b) = (random(device, &[extent, extent], 1), random(device, &[extent, extent], 2));
        let seconds = median(gpu, || matmul(&a, &b, false, transposed).expect("product"));
        let layout = if transposed { "a·bᵀ" } else { "a·b" };
        row(&format!("{layout} {extent}³"), cost(extent, extent, extent, 4).flops, seconds);
    }
}

/// A user's leaves as the labelling pass packs them, over the keys of trunk and leaves.
fn forest() -> AttentionIndex {
    let leaves = (0..HISTORY * CANDIDATES).map(|i| {
        let own = HISTORY + i;
        RowRanges([(0, 0), (0, i / CANDIDATES + 1), (0, 0), (own, own + 1)])
    });
    AttentionIndex::new(leaves.collect(), (HISTORY + HISTORY * CANDIDATES) as usize).expect("index")
}

fn attention(device: &Device, gpu: &Gpu) {
    let causal = AttentionIndex::causal(&[64; 64]).expect("index");
    for (name, index) in [("forest, history 50, 100 candidates", forest()), ("causal 64 x 64", causal)] {
        let index = Arc::new(index);
        let width = HEADS * HEAD_DIM;
        let q = random(device, &[index.rows(), width], 1);
        let (k, v) = (random(device, &[index.keys(), width], 2), random(device, &[index.keys(), width], 3));
        let mut op = ForestAttention::new(index, HEADS, HEADS, HEAD_DIM, 0.144);
        let flops = op.cost(&[&q, &k, &v]).flops;
        row(name, flops, median(gpu, || op.forward(&[&q, &k, &v], false).expect("attention")));
    }
}

/// Rate of forest attention as a share of the product's: both in turn, so that what else the machine does meets both.
fn share(device: &Device, gpu: &Gpu) {
    let index = Arc::new(forest());
    let width = HEADS * HEAD_DIM;
    let q = random(device, &[index.rows(), width], 1);
    let (k, v) = (random(device, &[index.keys(), width], 2), random(device, &[index.keys(), width], 3));
    let mut op = ForestAttention::new(index, HEADS, HEADS, HEAD_DIM, 0.144);
    let (a, b) = (random(device, &[512, 512], 1), random(device, &[512, 512], 2));
    let rates = |_| {
        let product = once(gpu, &mut || matmul(&a, &b, false, false).expect("product"));
        let attention = once(gpu, &mut || op.forward(&[&q, &k, &v], false).expect("attention"));
        let flops = op.cost(&[&q, &k, &v]).flops as f64;
        (flops / attention) / (cost(512, 512, 512, 4).flops as f64 / product)
    };
    let mut shares: Vec<f64> = (0..SHARES).map(rates).collect();
    shares.sort_by(f64::total_cmp);
    let [low, middle, high] = [SHARES / 4, SHARES / 2, SHARES * 3 / 4].map(|i| shares[i]);
    println!("\nforest attention / a·b 512³, in turn: {middle:.2} (quartiles {low:.2} to {high:.2})");
}

fn main() {
    let wanted =
        std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default().to_lowercase();
    let adapters = adapter::list();
    if adapters.is_empty() {
        println!("there is no WebGPU adapter");
    }
    for found in adapters.iter().filter(|found| found.info.name.to_lowercase().contains(&wanted)) {
        let gpu = adapter::open(Some(&found.index.to_string())).expect("adapter");
        let device = Device::WebGpu(gpu.clone());
        println!("\n{}\n\n| work | ms | GFLOP/s |\n| --- | --- | --- |", device.describe());
        products(&device, &gpu);
        attention(&device, &gpu);
        share(&device, &gpu);
    }
}
