//! The one loop that every bench is timed by.

use super::record::{Record, Samples};
use crate::cli::measure::ceilings::{self, Ceilings};
use crate::cli::measure::peak_rss_mb;
use crate::device::{Device, profile};
use crate::report::{ProfileReport, write_trace};
use crate::{Error, Result};
use clap::Args;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Instant;

/// Measurements of the ceilings, spread over the samples.
const CEILINGS: usize = 5;
/// Runs within a sample at most.
const REPETITIONS: usize = 10_000;

/// How a bench is timed.
#[derive(Clone, Debug, Args)]
pub struct Timing {
    /// Samples to take
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub samples: usize,
    /// Runs ahead of them that are not counted; one more counts FLOPs and bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub warm_up: usize,
    /// Least milliseconds of a sample: shorter work runs several times within one
    #[arg(long, value_name = "MS", default_value_t = 10.0)]
    pub sample_ms: f64,
    /// Extent N of the square product, the ceiling of compute or on the CPU beside it; the copy that measures memory has 16 N² numbers at
    /// most [default: 2048, doubled until a product takes 10 ms]
    #[arg(long, value_name = "N")]
    pub ceiling: Option<usize>,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Run once more with every kernel timed: a table of them goes to standard error, a trace for ui.perfetto.dev into this file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print one line of JSON a measured piece of work, as lea bench compare reads
    #[arg(long)]
    pub json: bool,
}

/// A piece of work that is measured.
pub struct Case<'a> {
    /// Name of the bench.
    pub bench: &'static str,
    /// Shapes and switches.
    pub settings: Value,
    /// What the inputs were drawn from.
    pub inputs: &'static str,
    /// What one run is called.
    pub unit: &'static str,
    /// Whether most of the work is with frozen weights as the device stores them, whose ceiling is then told.
    pub frozen: bool,
    /// One run; of which number. The device need not have done what was asked of it when it returns.
    pub run: Box<dyn FnMut(usize) -> Result<()> + 'a>,
}

impl Timing {
    /// Refuses what cannot be measured.
    fn check(&self) -> Result<()> {
        if self.samples == 0 {
            return Err(Error::setting(
                "--samples 0 measures nothing",
                "take at least 1, and 5 or more to compare runs",
            ));
        }
        ceilings::check(self.ceiling)?;
        if !(0.0..=60_000.0).contains(&self.sample_ms) {
            return Err(Error::setting(
                format!("--sample-ms {} is no time of a sample", self.sample_ms),
                "give milliseconds, 0 to 60000",
            ));
        }
        Ok(())
    }

    /// Runs the work: once to count it, as often as is asked to warm up, then sample by sample, the ceilings among them.
    pub fn measure(&self, mut case: Case) -> Result<Record> {
        self.check()?;
        let (device, mut number) = (&self.device, 0);
        let mut runs = |times: usize| -> Result<f64> {
            device.synchronize()?;
            let start = Instant::now();
            for _ in 0..times {
                (case.run)(number)?;
                number += 1;
            }
            device.synchronize()?;
            Ok(start.elapsed().as_secs_f64() / times.max(1) as f64)
        };
        let (_, counted) = profile::record(device, || runs(1))?;
        let (peak_rss_mb, held) = (peak_rss_mb(), device.memory_held());
        runs(self.warm_up)?;
        // A run that is short in itself is measured once more, by many.
        let once = if self.sample_ms > 0.0 { runs(1)? } else { f64::INFINITY };
        let repetitions =
            (self.sample_ms / 1e3 / once.max(1e-9)).ceil().clamp(1.0, REPETITIONS as f64) as usize;
        let mut ceilings = Ceilings::new(device, case.frozen, self.ceiling)?;
        let mut seconds = Vec::with_capacity(self.samples);
        for sample in 0..self.samples {
            if sample * CEILINGS % self.samples < CEILINGS {
                ceilings.measure()?;
            }
            seconds.push(runs(repetitions)?);
        }
        ceilings.measure()?;
        let ceiling = ceilings.told();
        if let Some(path) = &self.trace {
            let (_, recorded) = profile::record(device, || runs(1))?;
            let name = format!("bench {}", case.bench);
            let report = ProfileReport::new(&name, device.describe(), &recorded, ceiling.clone());
            eprint!("{}", report.kernel_table().to_text());
            write_trace(path, &device.describe(), &recorded)?;
        }
        let samples = Samples {
            seconds,
            work: counted.kernels().iter().map(|row| row.work).sum(),
            warm_up: self.warm_up + 1 + usize::from(self.sample_ms > 0.0),
            repetitions,
            ceiling,
            peak_rss_mb,
        };
        let record = Record::new(case.bench, (case.settings, case.inputs, case.unit), device, samples);
        Ok(match held {
            None => record,
            Some(bytes) => record.with("device_mb", bytes as f64 / 1e6),
        })
    }
}

/// The flags of a bench as they are where none is given.
pub fn defaults<A: Args>() -> Result<A> {
    let matches = A::augment_args(clap::Command::new("bench").no_binary_name(true))
        .try_get_matches_from(std::iter::empty::<&str>())
        .and_then(|matches| A::from_arg_matches(&matches));
    matches.map_err(|e| Error::setting(e.to_string(), "give the flags"))
}
