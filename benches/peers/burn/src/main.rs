//! burn's side of the comparison: the same cases, inputs and requests as `benches/peers/main.rs`, which says what
//! they are.

mod cases;
#[path = "../../counter.rs"]
#[allow(dead_code)]
mod counter;
mod sasrec;
mod stream;

use burn::tensor::{Device, DeviceKind};
use cases::{Case, case};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The cases made so far, with their data on the device.
struct Cases {
    device: Device,
    ready: BTreeMap<String, Box<dyn Case>>,
}

impl Cases {
    fn get(&mut self, name: &str) -> Result<&mut dyn Case> {
        if !self.ready.contains_key(name) {
            self.ready.insert(name.into(), case(&self.device, name)?);
        }
        Ok(self.ready.get_mut(name).expect("just made").as_mut())
    }
}

/// Seconds a repetition, all launched before one wait.
fn time(device: &Device, case: &mut dyn Case, repetitions: usize) -> Result<f64> {
    device.sync()?;
    let start = Instant::now();
    let kept: Vec<_> = (0..repetitions).map(|_| case.run()).collect();
    device.sync()?;
    let seconds = start.elapsed().as_secs_f64() / repetitions as f64;
    drop(kept);
    Ok(seconds)
}

fn main() -> Result<()> {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let mut cases = Cases { device: device.clone(), ready: BTreeMap::new() };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["describe"] => match device.identity() {
                Some(found) => format!("{} through {}", found.name, found.fingerprint),
                None => format!("{device:?}"),
            },
            ["check", name, file] => {
                let bytes: Vec<u8> = cases.get(name)?.check().iter().flat_map(|x| x.to_le_bytes()).collect();
                std::fs::write(file, bytes)?;
                "ok".into()
            }
            ["time", name, repetitions] => time(&device, cases.get(name)?, repetitions.parse()?)?.to_string(),
            _ => return Err(format!("no request {line:?}").into()),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
