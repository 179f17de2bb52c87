//! WebGPU kernels on every adapter of the machine, forward, from the first launch to the end of the last: products, and
//! forest attention as in the labelling pass (6 heads of 48, history 50, 100 candidates a step). Median of the
//! repetitions after one to warm up; GFLOP/s count useful FLOPs only. `-- NAME` keeps adapters with NAME in theirs.

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
const HEADS: usize = 6;
const HEAD_DIM: usize = 48;
const HISTORY: u32 = 50;
const CANDIDATES: u32 = 100;

fn random(device: &Device, shape: &[usize], seed: u64) -> Tensor {
    let data = gradcheck::random(shape, seed).to_f64_vec().expect("f64");
    Tensor::from_f64(device, DType::F32, &data, shape).expect("shape")
}

/// Median seconds of `work`.
fn median(gpu: &Gpu, mut work: impl FnMut() -> Tensor) -> f64 {
    let mut seconds = Vec::new();
    for repetition in 0..=REPETITIONS {
        let start = Instant::now();
        let kept = work();
        gpu.flush().expect("flush");
        gpu.wait().expect("wait");
        drop(kept);
        if repetition > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
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

fn attention(device: &Device, gpu: &Gpu) {
    let leaves = (0..HISTORY * CANDIDATES).map(|i| {
        let own = HISTORY + i;
        RowRanges([(0, 0), (0, i / CANDIDATES + 1), (0, 0), (own, own + 1)])
    });
    let forest =
        AttentionIndex::new(leaves.collect(), (HISTORY + HISTORY * CANDIDATES) as usize).expect("index");
    let causal = AttentionIndex::causal(&[64; 64]).expect("index");
    for (name, index) in [("forest, history 50, 100 candidates", forest), ("causal 64 x 64", causal)] {
        let index = Arc::new(index);
        let width = HEADS * HEAD_DIM;
        let q = random(device, &[index.rows(), width], 1);
        let (k, v) = (random(device, &[index.keys(), width], 2), random(device, &[index.keys(), width], 3));
        let mut op = ForestAttention::new(index, HEADS, HEADS, HEAD_DIM, 0.144);
        let flops = op.cost(&[&q, &k, &v]).flops;
        row(name, flops, median(gpu, || op.forward(&[&q, &k, &v], false).expect("attention")));
    }
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
    }
}
