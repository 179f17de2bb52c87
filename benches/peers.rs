//! The cases on which other frameworks are compared with this one, on one WebGPU adapter: `benches/peers/burn/run` drives
//! it. Requests come on standard input, one a line, and each is answered by one line:
//!
//! - `describe` → the device;
//! - `check CASE FILE` → `ok`, with the result in FILE as f32, little-endian;
//! - `reference CASE FILE` → the same computed in f64 on the CPU;
//! - `time CASE REPETITIONS` → seconds a repetition, all launched before one wait.
//!
//! Inputs are [`value`]s of a counter, which a peer computes for itself.

use lea::autograd::backward;
use lea::device::webgpu::adapter;
use lea::device::{AttentionIndex, DType, Device};
use lea::nn::{AdamW, AdamWConfig};
use lea::ops::matmul::matmul;
use lea::ops::{ForestAttention, Op};
use lea::rec::{Batch, Framework, Network, Noise, RecConfig, StepData, objective};
use lea::tensor::Tensor;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const HEADS: usize = 8;
const HEAD_DIM: usize = 64;
const USERS: usize = 256;
const HISTORY: usize = 50;
/// Losses that a check of the training step compares.
const CHECKED_STEPS: usize = 4;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The bits of element `i` of the stream `name`: FNV-1a of the name, counted up and mixed as in SplitMix64.
fn bits(name: &str, i: usize) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut z = hash.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in [−1, 1), exact in f32.
fn value(name: &str, i: usize) -> f64 {
    (bits(name, i) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// What the work runs on.
struct Home {
    device: Device,
    dtype: DType,
}

impl Home {
    fn tensor(&self, name: &str, shape: &[usize], map: impl Fn(f64) -> f64) -> Result<Tensor> {
        let data: Vec<f64> = (0..shape.iter().product()).map(|i| map(value(name, i))).collect();
        Ok(Tensor::from_f64(&self.device, self.dtype, &data, shape)?)
    }
}

/// One case, ready to run any number of times.
trait Case {
    /// Launches the work once and gives its result.
    fn run(&mut self) -> Result<Tensor>;
    /// What a check compares.
    fn check(&mut self) -> Result<Vec<f64>> {
        Ok(self.run()?.to_f64_vec()?)
    }
}

struct Product(Tensor, Tensor);

impl Case for Product {
    fn run(&mut self) -> Result<Tensor> {
        Ok(matmul(&self.0, &self.1, false, false)?)
    }
}

struct Attention {
    op: ForestAttention,
    /// Each `[rows, HEADS · HEAD_DIM]`.
    inputs: [Tensor; 3],
}

impl Case for Attention {
    fn run(&mut self) -> Result<Tensor> {
        let [q, k, v] = &self.inputs;
        Ok(self.op.forward(&[q, k, v], false)?)
    }
}

/// A supervised SASRec and one batch, every step of which is predicted.
struct Training {
    network: Network,
    optimiser: AdamW,
    data: StepData,
    steps: u64,
}

impl Training {
    fn new(home: &Home, items: usize) -> Result<Self> {
        let config = RecConfig {
            framework: Framework::Supervised,
            history: HISTORY,
            blocks: 2,
            dropout: 0.0,
            batch_steps: USERS * HISTORY,
            ..RecConfig::default()
        };
        let network = Network::new(&config, items, 0, (&home.device, home.dtype), 0)?;
        for param in network.params() {
            let name = param.name();
            let map: fn(f64) -> f64 = match name {
                _ if name.ends_with("norm.weight") => |x| 1.0 + 0.125 * x,
                _ if name.ends_with("bias") || name.contains("blocks") => |x| 0.125 * x,
                _ => |x| 0.0625 * x,
            };
            param.set(home.tensor(name, param.value().shape(), map)?);
        }
        let mut batch = Batch::default();
        for user in 0..USERS {
            let first = user * (HISTORY + 1);
            let item = |t: usize| (bits("history", first + t) % items as u64) as u32;
            batch.lengths.push(HISTORY);
            for t in 0..HISTORY {
                batch.rows.push((user * HISTORY + t) as u32);
                batch.items.push(item(t));
                batch.targets.push(item(t + 1));
                batch.places.push((user as u32, t as u32));
                batch.terminal.push(t + 1 == HISTORY);
            }
        }
        let steps = batch.steps();
        batch.rewards = vec![1.0; steps];
        let data = StepData { batch, rewards: vec![1.0; steps], ..StepData::default() };
        let optimiser = AdamW::new(network.params(), AdamWConfig::default())?;
        Ok(Training { network, optimiser, data, steps: 0 })
    }
}

impl Case for Training {
    /// The loss, which a training reads at every step.
    fn run(&mut self) -> Result<Tensor> {
        let objective = objective(&self.network, None, &self.data, &Noise::none(), self.steps)?;
        let loss = objective.loss.value().clone();
        loss.item()?;
        let grads = backward(&objective.loss)?;
        drop(objective);
        self.optimiser.step(grads, 1.0)?;
        self.steps += 1;
        Ok(loss)
    }

    fn check(&mut self) -> Result<Vec<f64>> {
        (0..CHECKED_STEPS).map(|_| Ok(self.run()?.item()?)).collect()
    }
}

fn case(home: &Home, name: &str) -> Result<Box<dyn Case>> {
    let (kind, size) = name.split_once('-').ok_or("a case is KIND-SIZE")?;
    let size: usize = size.parse()?;
    let tensor = |name, shape: [usize; 2]| home.tensor(name, &shape, |x| x);
    Ok(match kind {
        "matmul" => Box::new(Product(tensor("a", [size, size])?, tensor("b", [size, size])?)),
        "attention" => {
            let index = Arc::new(AttentionIndex::causal(&[size])?);
            let scale = 1.0 / (HEAD_DIM as f64).sqrt();
            let shape = [size, HEADS * HEAD_DIM];
            let inputs = [tensor("q", shape)?, tensor("k", shape)?, tensor("v", shape)?];
            Box::new(Attention { op: ForestAttention::new(index, HEADS, HEADS, HEAD_DIM, scale), inputs })
        }
        "train" => Box::new(Training::new(home, size)?),
        _ => return Err(format!("no case {name}").into()),
    })
}

fn write(path: &str, values: &[f64]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    Ok(std::fs::write(Path::new(path), bytes)?)
}

/// The cases made so far, with their data on the device.
struct Cases {
    home: Home,
    ready: Vec<(String, Box<dyn Case>)>,
}

impl Cases {
    fn get(&mut self, name: &str) -> Result<&mut dyn Case> {
        if let Some(at) = self.ready.iter().position(|(ready, _)| ready == name) {
            return Ok(self.ready[at].1.as_mut());
        }
        self.ready.push((name.into(), case(&self.home, name)?));
        Ok(self.ready.last_mut().expect("just pushed").1.as_mut())
    }

    fn time(&mut self, name: &str, repetitions: usize) -> Result<f64> {
        let device = self.home.device.clone();
        let case = self.get(name)?;
        device.synchronize()?;
        let start = Instant::now();
        let kept = (0..repetitions).map(|_| case.run()).collect::<Result<Vec<_>>>()?;
        device.synchronize()?;
        let seconds = start.elapsed().as_secs_f64() / repetitions as f64;
        drop(kept);
        Ok(seconds)
    }
}

fn answer(cases: &mut Cases, request: &str) -> Result<String> {
    match request.split_whitespace().collect::<Vec<_>>()[..] {
        ["describe"] => Ok(format!("lea {}: {}", env!("CARGO_PKG_VERSION"), cases.home.device.describe())),
        ["check", name, file] => {
            write(file, &cases.get(name)?.check()?)?;
            Ok("ok".into())
        }
        ["reference", name, file] => {
            write(file, &case(&Home { device: Device::Cpu, dtype: DType::F64 }, name)?.check()?)?;
            Ok("ok".into())
        }
        ["time", name, repetitions] => Ok(cases.time(name, repetitions.parse()?)?.to_string()),
        _ => Err(format!("no request {request:?}").into()),
    }
}

fn main() -> Result<()> {
    // `cargo bench` adds a flag of its own; there is nothing to choose here.
    let device = Device::WebGpu(adapter::open(None)?);
    let mut cases = Cases { home: Home { device, dtype: DType::F32 }, ready: Vec::new() };
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&mut cases, &line?)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
