//! The cases on which others are compared with this library, one process a side: `benches/peers/run` and
//! `benches/peers/burn/run` drive it. Requests come on standard input, one a line, and each is answered by one line:
//!
//! - `describe` → the device;
//! - `check CASE FILE` → `ok`, with the result in FILE as f32, little-endian;
//! - `reference CASE FILE` → the same computed in f64 on the CPU;
//! - `time CASE REPETITIONS` → seconds a repetition, all launched before one wait.
//!
//! Arguments: `cpu` or `webgpu` (the default), then for the CPU `f32` or `bf16`, the type of a decoder's projections.

mod counter;
mod labelling;
mod products;
mod ranking;
mod training;
mod values;

use labelling::{Labelling, Prefill};
use lea::device::webgpu::adapter;
use lea::device::{DType, Device, cpu};
use lea::rec::Framework;
use products::{Attention, Product};
use ranking::RankAll;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use training::{Training, gru, sasrec};
use values::{Case, Home, Result};

/// The case of a name: a kind and its sizes.
fn case(home: &Home, name: &str) -> Result<Box<dyn Case>> {
    let words: Vec<&str> = name.split('-').collect();
    let size = |at: usize| -> Result<usize> { Ok(words.get(at).ok_or("a size is missing")?.parse()?) };
    Ok(match words[..] {
        ["matmul", _] => Box::new(Product::new(home, size(1)?)?),
        ["attention", _] => Box::new(Attention::new(home, size(1)?)?),
        ["label", shape, _, _] => Box::new(Labelling::new(home, shape, size(2)?, size(3)?)?),
        ["prefill", shape, _] => Box::new(Prefill::new(home, shape, size(2)?)?),
        ["train", encoder, framework, _] => {
            let framework = match framework {
                "ce" => Framework::Supervised,
                "sqn" => Framework::Sqn,
                "snqn" => Framework::Snqn,
                _ => return Err(format!("no framework {framework}").into()),
            };
            let config = match encoder {
                "sasrec" => sasrec(framework),
                "gru" => gru(framework),
                _ => return Err(format!("no encoder {encoder}").into()),
            };
            Box::new(Training::new(home, &config, size(3)?)?)
        }
        ["rank", _] => Box::new(RankAll::new(home, size(1)?)?),
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
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let device = match words[..] {
        [] | ["webgpu"] => Device::WebGpu(adapter::open(None)?),
        ["cpu"] => Device::Cpu,
        ["cpu", frozen] => {
            cpu::force_frozen_type(frozen.parse()?);
            Device::Cpu
        }
        _ => return Err(format!("the arguments {words:?} name no device").into()),
    };
    let mut cases = Cases { home: Home { device, dtype: DType::F32 }, ready: Vec::new() };
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&mut cases, &line?)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
