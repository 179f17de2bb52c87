//! What a bench found: one line of JSON a measured piece of work, or a row of a table.

use crate::Result;
use crate::cli::measure::statistics::{median, quantile};
use crate::cli::output;
use crate::device::{Cost, Device};
use crate::report::{Align, Ceiling, Cell, Table, git_revision};
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
    /// Bytes of a unit that have to cross memory at least.
    pub bytes: u64,
    /// `flops` by the median time, 10⁹ a second.
    pub gflops: f64,
    /// `bytes` by the median time, 10⁹ a second.
    pub gb_per_s: f64,
    /// Rate of a large product on the same device in the same run.
    pub ceiling_gflops: f64,
    /// Rate of a long copy there.
    pub ceiling_gb_per_s: f64,
    /// Type of the factor of that product which stands for weights.
    pub ceiling_dtype: String,
    /// The larger of the two rates' shares of their ceilings.
    pub share_of_ceiling: f64,
    /// Of which ceiling that is: "compute" or "memory".
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
    pub work: Cost,
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
        let (bound, share) = of.ceiling.bound(of.work.flops as f64, of.work.bytes as f64, middle);
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
            flops: of.work.flops,
            bytes: of.work.bytes,
            gflops: of.work.flops as f64 / middle / 1e9,
            gb_per_s: of.work.bytes as f64 / middle / 1e9,
            ceiling_gflops: of.ceiling.gflops,
            ceiling_gb_per_s: of.ceiling.gb_per_s,
            ceiling_dtype: of.ceiling.dtype,
            share_of_ceiling: share,
            bound: bound.name().into(),
            peak_rss_mb: of.peak_rss_mb,
            more: Map::new(),
        }
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

/// Prints the records, as lines of JSON or as a table.
pub fn print(records: &[Record], json: bool) -> Result<()> {
    if json {
        return records.iter().try_for_each(|record| {
            let line = serde_json::to_string(record)
                .map_err(|e| crate::Error::setting(format!("no JSON: {e}"), "report this"))?;
            output::line(line)
        });
    }
    let right = ["ms", "p10", "p90", "GFLOP/s", "GB/s", "of the ceiling", "and besides"];
    let sides = |name| (name, if name == "and besides" { Align::Left } else { Align::Right });
    let mut table = Table::new([("work", Align::Left)].into_iter().chain(right.map(sides)));
    for record in records {
        let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let more: Vec<String> = record.more.iter().filter_map(|(name, value)| said(name, value)).collect();
        let cells = [
            record.title(),
            ms(record.median_seconds),
            ms(record.p10_seconds),
            ms(record.p90_seconds),
            format!("{:.1}", record.gflops),
            format!("{:.1}", record.gb_per_s),
            format!("{:.0} % {}", 100.0 * record.share_of_ceiling, record.bound),
            more.join(", "),
        ];
        table.row(cells.into_iter().map(Cell::new).collect());
    }
    output::line(table.to_text().trim_end())?;
    records.first().map_or(Ok(()), |first| {
        output::line(format_args!(
            "{}, {} threads; ceilings {:.1} GFLOP/s ({}) and {:.1} GB/s",
            first.device, first.threads, first.ceiling_gflops, first.ceiling_dtype, first.ceiling_gb_per_s
        ))
    })
}

/// A figure that a bench tells besides; nothing where it has none.
fn said(name: &str, value: &Value) -> Option<String> {
    let name = name.replace("_per_s", "/s").replace('_', " ");
    match value {
        Value::Null => None,
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            Some(format!("{number:.*} {name}", if number.abs() < 100.0 { 2 } else { 0 }))
        }
        Value::String(text) => Some(format!("{name} {text}")),
        other => Some(format!("{other} {name}")),
    }
}
