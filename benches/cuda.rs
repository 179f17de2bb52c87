//! CUDA kernels timed by the device's own clock: the products of decoders of 7B and 1B parameters over 8192
//! rows, from bf16 and from f32, their gated halves, those of a recommender's step, and forest attention as in the labelling
//! pass, multiplied in bf16 from and into bf16, and from and into f32; and its gradients as in training, multiplied in bf16 and in
//! f32. Median of the repetitions after one to warm up. The ceilings are measured in the same run: a square product for
//! arithmetic, a copy for memory. The share is that of the ceiling which the work's least time is bound by. On Hopper products and
//! attention in bf16 are done twice: by its own kernels, and by those for all GPUs.
//!
//! `-- --quick` takes extents that an emulated device can do, `-- --jsonl FILE` writes a line a row there as well.

mod forests;

use forests::{Trees, pass};
use half::bf16;
use lea::device::cuda::{self, Cuda, Gemm};
use lea::device::{Cost, DType, Device};
use lea::ops::matmul::{cost, matmul};
use lea::ops::{AdaptedLinear, GatedLinear, Op, Saved, Scale};
use lea::tensor::Tensor;
use lea::{Error, Result};
use serde_json::json;
use std::cell::Cell;
use std::io::Write;

/// Head dim of the decoders of both sizes' attention.
const HEAD_DIM: usize = 128;

/// Types in which weights are stored.
const TYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Extents of a run.
struct Extents {
    repetitions: usize,
    /// Rows of small products.
    few: &'static [usize],
    /// Rows of a product.
    rows: usize,
    /// All extents of weights are divided by it.
    divisor: usize,
    /// Side of the square product whose rate is the ceiling.
    square: usize,
    /// Elements that are copied.
    copied: usize,
    /// Query heads and key heads of attention.
    heads: (usize, usize),
    histories: &'static [u32],
    /// Of more query heads than key heads, and histories for them.
    grouped: (usize, usize),
    grouped_histories: &'static [u32],
    candidates: &'static [u32],
    gradients: &'static [(&'static str, Heads, Trees)],
}

/// Query heads, key heads and their width.
type Heads = (usize, usize, usize);

const FULL: Extents = Extents {
    repetitions: 15,
    few: &[64, 256, 1024],
    rows: 8192,
    divisor: 1,
    square: 8192,
    copied: 1 << 28,
    heads: (32, 32),
    histories: &[50, 128, 512],
    grouped: (32, 8),
    grouped_histories: &[50, 512],
    candidates: &[20, 100],
    gradients: &[
        ("LE step", (32, 8, 64), Trees { users: 2, root: 8, trunk: 50, stem: 4, leaves: 5, leaf: 2 }),
        ("history 50, 20 candidates", (32, 8, 128), pass(50, 20)),
        ("history 512, 20 candidates", (32, 8, 128), pass(512, 20)),
        ("history 512, 20 candidates", (32, 32, 128), pass(512, 20)),
    ],
};

const QUICK: Extents = Extents {
    repetitions: 1,
    few: &[4],
    rows: 64,
    divisor: 32,
    square: 128,
    copied: 1 << 16,
    heads: (1, 1),
    histories: &[8],
    grouped: (2, 1),
    grouped_histories: &[8],
    candidates: &[4],
    gradients: &[("LE step", (2, 1, 64), Trees { users: 2, root: 2, trunk: 8, stem: 1, leaves: 2, leaf: 2 })],
};

/// Weights `[n, k]` of a decoder layer's projections.
const PROJECTIONS: [(&str, usize, usize); 6] = [
    ("7B q, k, v, o", 4096, 4096),
    ("7B gate, up", 11_008, 4096),
    ("7B down", 4096, 11_008),
    ("1B q, o", 2048, 2048),
    ("1B gate, up", 8192, 2048),
    ("1B down", 2048, 8192),
];

/// Gated halves of feed-forward blocks.
const GATED: [(&str, usize, usize); 2] = [("7B gated", 11_008, 4096), ("1B gated", 8192, 2048)];

/// Projections and the ranks of their adapters.
const ADAPTED: [(&str, usize, usize, usize); 3] =
    [("1B q, o", 2048, 2048, 8), ("1B v", 512, 2048, 8), ("7B q, o", 4096, 4096, 64)];

/// Products of a step of a recommender of width 64, of 12,800 rows (256 users, 50 steps) and 3000 items: m, n, k and whether a and b are
/// stored transposed.
const TRAINING: [(&str, [usize; 3], [bool; 2]); 7] = [
    ("scores, x Wt", [12_800, 3000, 64], [false, true]),
    ("scores, dx", [12_800, 64, 3000], [false, false]),
    ("scores, dW", [3000, 64, 12_800], [true, false]),
    ("layer, x Wt", [12_800, 64, 64], [false, true]),
    ("layer, dx", [12_800, 64, 64], [false, false]),
    ("layer, dW", [64, 64, 12_800], [true, false]),
    ("adapter of rank 8, x At", [8192, 8, 2048], [false, true]),
];

/// What the device can do: FLOP/s of a product of each type, bytes/s of a copy.
struct Ceilings {
    product: Vec<(DType, f64)>,
    copy: f64,
}

/// Seconds of work that needs no other run behind it; most runs of shorter work; copies ahead of them, of .72 ms each on an H100.
const LONG: f64 = 2e-3;
const MOST_RUNS: f64 = 20.0;
const COPIES_AHEAD: usize = 2;

struct Bench {
    device: Device,
    cuda: Cuda,
    extents: &'static Extents,
    /// What a copy reads.
    copied: Tensor,
    /// Whether the last median may hold waits for the host.
    waited: Cell<bool>,
    /// Where rows go besides the terminal.
    lines: Option<std::fs::File>,
}

impl Bench {
    fn random(&self, dtype: DType, shape: &[usize], seed: u32) -> Result<Tensor> {
        random(&self.device, dtype, shape, seed)
    }

    /// Median seconds of `work` on the device. Short work runs several times in a row behind copies that keep the device busy until the
    /// host has laid all of it out: its time is the device's, not that of the host's part of a launch. What fits stays in L2 from one run to
    /// the next.
    fn median(&self, mut work: impl FnMut() -> Result<Tensor>) -> Result<f64> {
        drop(work()?);
        let once = self.cuda.seconds(&mut work)?.1;
        let runs = (LONG / once).ceil().clamp(1.0, MOST_RUNS) as usize;
        let (mut seconds, mut waited) = (Vec::new(), false);
        for _ in 0..self.extents.repetitions {
            for _ in 0..if runs > 1 { COPIES_AHEAD } else { 0 } {
                drop(Scale(2.0).forward(&[&self.copied], false)?);
            }
            let all = || (0..runs).try_for_each(|_| work().map(drop));
            let (_, of_all, waits) = self.cuda.seconds_and_waits(all)?;
            seconds.push(of_all / runs as f64);
            waited |= runs > 1 && waits;
        }
        self.waited.set(waited);
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }

    fn ceilings(&self) -> Result<Ceilings> {
        let side = self.extents.square;
        let mut rates = Vec::new();
        for dtype in TYPES {
            let (a, b) = (self.random(dtype, &[side, side], 1)?, self.random(dtype, &[side, side], 2)?);
            let seconds = self.median(|| matmul(&a, &b, false, true))?;
            rates.push((dtype, product([side; 3], [dtype; 2]).flops as f64 / seconds));
        }
        let seconds = self.median(|| Scale(2.0).forward(&[&self.copied], false))?;
        Ok(Ceilings { product: rates, copy: (8 * self.extents.copied) as f64 / seconds })
    }

    fn row(&mut self, name: &str, dtype: DType, work: Cost, seconds: f64, ceilings: &Ceilings) -> Result<()> {
        let peak = ceilings.product.iter().find(|(of, _)| *of == dtype).map_or(f64::NAN, |(_, rate)| *rate);
        let (arithmetic, memory) = (work.flops as f64 / peak, work.bytes as f64 / ceilings.copy);
        let bound = if arithmetic >= memory { "arithmetic" } else { "memory" };
        let share = 100.0 * arithmetic.max(memory) / seconds;
        let (tflops, gbs) = (work.flops as f64 / seconds / 1e12, work.bytes as f64 / seconds / 1e9);
        let (gflop, mb) = (work.flops as f64 / 1e9, work.bytes as f64 / 1e6);
        let waited = self.waited.get();
        let mark = if waited { " (and waits for the host)" } else { "" };
        println!(
            "| {name}{mark} | {dtype} | {:.3} | {gflop:.2} | {mb:.1} | {tflops:.3} | {gbs:.1} | {share:.1} % of {bound} |",
            seconds * 1e3
        );
        let Some(file) = &mut self.lines else { return Ok(()) };
        let line = json!({"name": name, "dtype": dtype.to_string(), "ms": seconds * 1e3, "flops": work.flops,
            "bytes": work.bytes, "tflops": tflops, "gb_per_s": gbs, "share_percent": share, "bound": bound, "waits": waited});
        writeln!(file, "{line}")
            .map_err(|e| Error::setting(format!("--jsonl: {e}"), "name a file to write to"))
    }

    fn products(&mut self, ceilings: &Ceilings) -> Result<()> {
        for dtype in TYPES {
            self.products_of([dtype; 2], "", ceilings)?;
        }
        self.products_of([DType::F32, DType::BF16], " (f32 in)", ceilings)?;
        self.gated("", ceilings)?;
        self.adapted("", ceilings)?;
        self.products_of_training(ceilings)?;
        self.by_older_kernels(|bench| {
            bench.products_of([DType::BF16; 2], " (sm_80)", ceilings)?;
            bench.gated(" (sm_80)", ceilings)?;
            bench.adapted(" (sm_80)", ceilings)
        })?;
        match self.cuda.set_gemm(Gemm::CublasLt) {
            Ok(()) => {
                self.products_of([DType::BF16; 2], " (cuBLASLt)", ceilings)?;
                self.cuda.set_gemm(Gemm::Lea)
            }
            Err(why) => {
                eprintln!("no rows of cuBLASLt: {why}");
                Ok(())
            }
        }
    }

    /// Hopper has kernels of its own: there, `f` by those that all GPUs have.
    fn by_older_kernels(&mut self, f: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let description = self.cuda.description();
        if description.capability != (9, 0) {
            return Ok(());
        }
        let cuda = Cuda::open(cuda::Description { capability: (8, 0), ..description.clone() }, false, None)?;
        let hopper = (
            std::mem::replace(&mut self.device, Device::Cuda(cuda.clone())),
            std::mem::replace(&mut self.cuda, cuda),
        );
        f(self)?;
        (self.device, self.cuda) = hopper;
        Ok(())
    }

    /// Of rows in one type with weights in another.
    fn products_of(&mut self, types: [DType; 2], kernels: &str, ceilings: &Ceilings) -> Result<()> {
        let large = PROJECTIONS.map(|(name, n, k)| (self.extents.rows, name, n, k));
        // Of few rows too, which choose other tiles and are bound by reads of the weight.
        let few = self.extents.few.iter().map(|&m| (m, "1B gate, up", 8192, 2048));
        for (m, name, n, k) in large.into_iter().chain(few) {
            let (n, k) = (n / self.extents.divisor, k / self.extents.divisor);
            let (x, w) = (self.random(types[0], &[m, k], 1)?, self.random(types[1], &[n, k], 2)?);
            let seconds = self.median(|| matmul(&x, &w, false, true))?;
            let name = format!("{name}: {m} x {n} x {k}{kernels}");
            self.row(&name, types[1], product([m, n, k], types), seconds, ceilings)?;
        }
        Ok(())
    }

    /// The gated half of a feed-forward block, in bf16.
    fn gated(&mut self, kernels: &str, ceilings: &Ceilings) -> Result<()> {
        let m = self.extents.rows;
        for (name, n, k) in GATED {
            let (n, k) = (n / self.extents.divisor, k / self.extents.divisor);
            let x = self.random(DType::BF16, &[m, k], 1)?;
            let [gate, up] = [self.random(DType::BF16, &[n, k], 2)?, self.random(DType::BF16, &[n, k], 3)?];
            let seconds = self.median(|| GatedLinear.forward(&[&x, &gate, &up], false))?;
            let name = format!("{name}: 2 x {m} x {n} x {k}{kernels}");
            // But for Hopper the gate goes to memory and back in f32.
            let between = if self.cuda.description().capability == (9, 0) { 0 } else { 8 * m * n };
            let work = GatedLinear.cost(&[&x, &gate, &up]);
            let work = Cost { bytes: work.bytes + between as u64, ..work };
            self.row(&name, DType::BF16, work, seconds, ceilings)?;
        }
        Ok(())
    }

    /// Projections of rows in f32 with an adapter: forward, backward with the gradients of x, A and B, and of x without the adapter.
    fn adapted(&mut self, kernels: &str, ceilings: &Ceilings) -> Result<()> {
        let m = self.extents.rows;
        for (name, n, k, rank) in ADAPTED {
            let (n, k) = (n / self.extents.divisor, k / self.extents.divisor);
            let (x, w) = (self.random(DType::F32, &[m, k], 1)?, self.random(DType::BF16, &[n, k], 2)?);
            let (a, b) = (self.random(DType::F32, &[rank, k], 3)?, self.random(DType::F32, &[n, rank], 4)?);
            let grad = self.random(DType::F32, &[m, n], 5)?;
            let mut layer = AdaptedLinear::new(2.0);
            let inputs = [&x, &w, &a, &b];
            let forward = self.median(|| layer.forward(&inputs, true))?;
            let kept = inputs.map(|x| Some(x.clone()));
            let saved = Saved::new(&kept, None, &[true, false, true, true]);
            let all = || layer.backward(&saved, &grad).map(|mut grads| grads.swap_remove(0));
            let backward = self.median(|| Ok(all()?.expect("it was asked for")))?;
            let without = self.median(|| matmul(&grad, &w, false, false))?;
            let name = format!("{name}, adapter of rank {rank}: {m} x {n} x {k}{kernels}");
            let work = layer.cost(&inputs);
            self.row(&name, DType::BF16, work, forward, ceilings)?;
            // Products of the adapter twice, and all that is read of x, the gradient and what comes out.
            let thin = 2 * (m * rank * (n + k)) as u64;
            let work = Cost { flops: work.flops + thin, bytes: work.bytes + 4 * (m * k) as u64 };
            self.row(&format!("{name}, backward"), DType::BF16, work, backward, ceilings)?;
            let plain = product([m, k, n], [DType::F32, DType::BF16]);
            self.row(&format!("{name}, backward without it"), DType::BF16, plain, without, ceilings)?;
        }
        Ok(())
    }

    /// In f32. The name tells which factors are stored transposed: b, unless it says another.
    fn products_of_training(&mut self, ceilings: &Ceilings) -> Result<()> {
        for (name, extents, [transpose_a, transpose_b]) in TRAINING {
            let [m, n, k] = extents.map(|extent| (extent / self.extents.divisor).max(2));
            let a = self.random(DType::F32, &if transpose_a { [k, m] } else { [m, k] }, 1)?;
            let b = self.random(DType::F32, &if transpose_b { [n, k] } else { [k, n] }, 2)?;
            let seconds = self.median(|| matmul(&a, &b, transpose_a, transpose_b))?;
            let layout = match (transpose_a, transpose_b) {
                (false, true) => "",
                (false, false) => " nn",
                (true, false) => " tn",
                (true, true) => " tt",
            };
            let name = format!("{name}: {m} x {n} x {k}{layout}");
            self.row(&name, DType::F32, cost(m, n, k, DType::F32.size()), seconds, ceilings)?;
        }
        Ok(())
    }
}

/// Uniform in [−1, 1), of one block of numbers again and again: making gigabytes of them would take longer than all else.
fn random(device: &Device, dtype: DType, shape: &[usize], seed: u32) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let block: Vec<f32> = (0..65_521).map(|_| next()).collect();
    let len = shape.iter().product();
    match dtype {
        DType::BF16 => {
            let block: Vec<bf16> = block.into_iter().map(bf16::from_f32).collect();
            Tensor::from_slice(device, &repeated(&block, len), shape)
        }
        _ => Tensor::from_slice(device, &repeated(&block, len), shape),
    }
}

/// So many numbers, the block's again and again.
fn repeated<T: Copy>(block: &[T], len: usize) -> Vec<T> {
    let mut data = Vec::with_capacity(len);
    while data.len() < len {
        data.extend_from_slice(&block[..block.len().min(len - data.len())]);
    }
    data
}

/// Work of a product of rows `[m, k]` in one type with weights `[n, k]` in another, with a result in f32.
fn product([m, n, k]: [usize; 3], [rows, weights]: [DType; 2]) -> Cost {
    let bytes = m * k * rows.size() + n * k * weights.size() + m * n * DType::F32.size();
    Cost { bytes: bytes as u64, ..cost(m, n, k, DType::F32.size()) }
}

fn measure(extents: &'static Extents, lines: Option<std::fs::File>) -> Result<()> {
    let cuda = cuda::open(None)?;
    let device = Device::Cuda(cuda.clone());
    let copied = random(&device, DType::F32, &[extents.copied], 3)?;
    let mut bench = Bench { device, cuda, extents, copied, waited: Cell::new(false), lines };
    let ceilings = bench.ceilings()?;
    println!("{}\n", bench.device.describe());
    for (dtype, rate) in &ceilings.product {
        println!(
            "ceiling of arithmetic, a product of {0} x {0} {dtype}: {1:.3} TFLOP/s",
            extents.square,
            rate / 1e12
        );
    }
    println!(
        "ceiling of memory, {} MB read and written: {:.1} GB/s\n",
        extents.copied / 250_000,
        ceilings.copy / 1e9
    );
    println!("| work | type | ms | GFLOP | MB | TFLOP/s | GB/s | share |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    bench.products(&ceilings)?;
    bench.attention(&ceilings)
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let path = args.iter().position(|arg| arg == "--jsonl").and_then(|i| args.get(i + 1));
    let lines =
        path.map(std::fs::File::create).transpose().map_err(|e| Error::setting(e.to_string(), "name a file"));
    match lines.and_then(|lines| measure(if quick { &QUICK } else { &FULL }, lines)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
