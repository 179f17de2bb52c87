//! What a bench found of one piece of work, as `--json` prints it, a line each.

use crate::cli::measure::statistics::{median, quantile};
use crate::device::{Device, profile::Work};
use crate::report::{Ceiling, git_revision};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One measured piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// "matmul", "label" …
    pub bench: String,
    /// Its shapes and switches; two records of the same bench and settings are of the same work.
    pub settings: Map<String, Value>,
    /// What the inputs were drawn from.
    pub inputs: String,
    /// What a sample is the time of: "product", "user" …
    pub unit: String,
    /// Make and instruction set.
    pub device: String,
    /// Threads that the CPU path could use.
    pub threads: usize,
    /// Version of `lea`.
    pub version: String,
    /// Git revision of the source; absent when unknown.
    pub revision: Option<String>,
    /// Processes that wanted to run in the minute before, as the system tells it; a busy machine measures badly.
    pub load: Option<f64>,
    /// Runs ahead of the samples that are not counted.
    pub warm_up: usize,
    /// Runs within a sample, whose time is their mean.
    pub repetitions: usize,
    /// Seconds a unit, a number a sample, in order.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median_seconds: f64,
    /// Their 10th percentile.
    pub p10_seconds: f64,
    /// Their 90th percentile.
    pub p90_seconds: f64,
    /// Floating-point operations of a unit, the least that its ops need.
    pub flops: u64,
    /// Of which with a factor that is stored in 16 bits; absent in old records.
    #[serde(default)]
    pub half_flops: u64,
    /// Bytes of a unit that have to cross memory at least.
    pub bytes: u64,
    /// `flops` by the median time, 10⁹ a second.
    pub gflops: f64,
    /// `bytes` by the median time, 10⁹ a second.
    pub gb_per_s: f64,
    /// The most that the same device computes in the same run with factors of `ceiling_dtype`: on the CPU by multiply-adds that stay
    /// in registers, elsewhere by a large product. In old records it is that of the product everywhere.
    pub ceiling_gflops: f64,
    /// Rate of a large product; absent in old records.
    #[serde(default)]
    pub ceiling_product_gflops: Option<f64>,
    /// The same as `ceiling_gflops` in f32, where `ceiling_dtype` is another type: for the rest of the work.
    #[serde(default)]
    pub ceiling_f32_gflops: Option<f64>,
    /// Rate of a long copy there.
    pub ceiling_gb_per_s: f64,
    /// Type of the factor that stands for weights, as it is stored.
    pub ceiling_dtype: String,
    /// The larger of the two rates' shares of their ceilings; what is computed in different types stands beside the ceiling of each.
    pub share_of_ceiling: f64,
    /// Of which ceiling that is: "compute" or "memory"; empty in old records.
    #[serde(default)]
    pub nearest_ceiling: String,
    /// The ceiling that bounds the work, "neither" below a quarter of both; in old records the nearest one.
    pub bound: String,
    /// Largest resident memory of the process until the ceilings were measured, MB (10⁶ bytes).
    pub peak_rss_mb: Option<f64>,
    /// What this bench tells besides: labels a second …
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Samples and what they are of.
pub struct Samples {
    /// Seconds a unit.
    pub seconds: Vec<f64>,
    /// Work of a unit.
    pub work: Work,
    /// Runs that were not counted.
    pub warm_up: usize,
    /// Runs within a sample.
    pub repetitions: usize,
    /// Measured in the same run.
    pub ceiling: Ceiling,
    /// Of the work alone.
    pub peak_rss_mb: Option<f64>,
}

impl Record {
    /// The record of the samples of `bench` on `device`.
    pub fn new(
        bench: &str,
        (settings, inputs, unit): (Value, &str, &str),
        device: &Device,
        of: Samples,
    ) -> Self {
        let middle = median(&of.seconds);
        let shares = of.ceiling.shares(of.work, middle);
        let (nearest, share) = Ceiling::nearest(shares);
        let (limit, single) = (of.ceiling.frozen(), of.ceiling.single());
        let settings = match settings {
            Value::Object(map) => map,
            other => Map::from_iter([("shape".to_string(), other)]),
        };
        Record {
            bench: bench.into(),
            settings,
            inputs: inputs.into(),
            unit: unit.into(),
            device: device.describe(),
            threads: rayon::current_num_threads(),
            version: env!("CARGO_PKG_VERSION").into(),
            revision: git_revision(),
            load: load(),
            warm_up: of.warm_up,
            repetitions: of.repetitions,
            median_seconds: middle,
            p10_seconds: quantile(&of.seconds, 0.1),
            p90_seconds: quantile(&of.seconds, 0.9),
            seconds: of.seconds,
            flops: of.work.flops.round() as u64,
            half_flops: of.work.half_flops.round() as u64,
            bytes: of.work.bytes.round() as u64,
            gflops: of.work.flops / middle / 1e9,
            gb_per_s: of.work.bytes / middle / 1e9,
            ceiling_gflops: limit.gflops,
            ceiling_product_gflops: Some(limit.product_gflops),
            ceiling_f32_gflops: (limit.dtype != single.dtype).then_some(single.gflops),
            ceiling_gb_per_s: of.ceiling.gb_per_s,
            ceiling_dtype: limit.dtype.clone(),
            share_of_ceiling: share,
            nearest_ceiling: nearest.name().into(),
            bound: Ceiling::bound(shares).name().into(),
            peak_rss_mb: of.peak_rss_mb,
            more: Map::new(),
        }
    }

    /// Takes the samples of another run of the same work as well, and the better of each ceiling.
    pub fn take_in(&mut self, other: &Record) {
        self.seconds.extend(&other.seconds);
        self.median_seconds = median(&self.seconds);
        self.p10_seconds = quantile(&self.seconds, 0.1);
        self.p90_seconds = quantile(&self.seconds, 0.9);
        let better = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a.max(b));
        self.ceiling_gflops = self.ceiling_gflops.max(other.ceiling_gflops);
        self.ceiling_product_gflops = better(self.ceiling_product_gflops, other.ceiling_product_gflops);
        self.ceiling_f32_gflops = better(self.ceiling_f32_gflops, other.ceiling_f32_gflops);
        self.ceiling_gb_per_s = self.ceiling_gb_per_s.max(other.ceiling_gb_per_s);
    }

    /// The same record that tells `name` too.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.into(), value.into());
        self
    }

    /// `units` of something a second, at the median time of a sample's unit.
    pub fn rate(self, name: &str, units: f64) -> Self {
        let rate = units / self.median_seconds;
        self.with(name, rate)
    }

    /// Bench and settings in words.
    pub fn title(&self) -> String {
        let said = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        };
        let settings: Vec<String> = self.settings.iter().map(said).collect();
        format!("{}: {}", self.bench, settings.join(", "))
    }
}

/// Mean number of processes that wanted to run in the last minute, where the system tells.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
