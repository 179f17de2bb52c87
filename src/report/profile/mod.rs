//! What a profile tells: kernels beside the device's limits, stages, and the time outside kernels; as tables, as data, as a
//! page, and as a trace.

mod page;
mod stages;
mod trace;

pub use trace::write_trace;

use self::stages::Stages;
use super::plot::FlamePart;
use super::{Align, Bound, Ceiling, Cell, Table, git_revision, json};
use crate::device::profile::{KernelRow, Profile, Work};
use crate::{Result, files};
use serde::Serialize;
use std::path::Path;

/// One kernel; where the host timed it, one op.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelFigures {
    /// Its stable name.
    pub kernel: String,
    /// Launches.
    pub calls: usize,
    /// Their time together.
    pub seconds: f64,
    /// Its share of all kernels' time, in 0..=1.
    pub share: f64,
    /// Floating-point operations, the least that its ops need; 0 where they do not tell.
    pub flops: f64,
    /// Of which with a factor that is stored in 16 bits, as frozen weights may be: they stand beside the limit of that type.
    pub half_flops: f64,
    /// Bytes that have to cross memory, likewise.
    pub bytes: f64,
    /// 10⁹ FLOPs a second.
    pub gflops: f64,
    /// 10⁹ bytes a second.
    pub gb_per_s: f64,
    /// Share of the ceiling of compute.
    pub share_of_compute: f64,
    /// Share of the ceiling of memory.
    pub share_of_memory: f64,
    /// The limit that it meets first, "neither" below a quarter of both; absent where nothing is known of its work.
    pub bound: Option<Bound>,
}

impl KernelFigures {
    fn new(row: &KernelRow, all: f64, ceiling: &Ceiling) -> Self {
        let rate = |work: f64| if row.seconds > 0.0 { work / row.seconds / 1e9 } else { 0.0 };
        let Work { flops, half_flops, bytes } = row.work;
        let shares = ceiling.shares(row.work, row.seconds);
        let known = flops + bytes > 0.0 && row.seconds > 0.0;
        KernelFigures {
            kernel: row.kernel.to_string(),
            calls: row.calls,
            seconds: row.seconds,
            share: if all > 0.0 { row.seconds / all } else { 0.0 },
            flops,
            half_flops,
            bytes,
            gflops: rate(flops),
            gb_per_s: rate(bytes),
            share_of_compute: shares[0],
            share_of_memory: shares[1],
            bound: known.then(|| Ceiling::bound(shares)),
        }
    }
}

/// A figure with two digits behind the point or, where it is small, two that count; a dash for none.
fn told(figure: f64) -> String {
    match figure {
        none if none <= 0.0 => "-".into(),
        large if large >= 1000.0 => format!("{large:.0}"),
        tiny if tiny < 1e-3 => format!("{tiny:.1e}"),
        small if small < 0.1 => format!("{small:.4}"),
        _ => format!("{figure:.2}"),
    }
}

/// A named part of the work, all its times together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageFigures {
    /// Its name behind the names of what it is part of: "label", "leaves".
    pub path: Vec<String>,
    /// How often it ran.
    pub calls: usize,
    /// By the host's clock; on a device that runs behind the host a part may end before its kernels do.
    pub seconds: f64,
    /// Of its kernels.
    pub kernel_seconds: f64,
}

/// A profile beside the limits of its device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileReport {
    /// Version of `lea`.
    pub version: String,
    /// Git revision of the source; absent when unknown.
    pub revision: Option<String>,
    /// The command line, word by word.
    pub command_line: Vec<String>,
    /// What was profiled: "label", "fit" …
    pub step: String,
    /// Make and instruction set.
    pub device: String,
    /// Threads that the CPU path could use.
    pub threads: usize,
    /// Where it stopped before its end; absent where it came there.
    pub stopped: Option<String>,
    /// Time that went by.
    pub seconds: f64,
    /// Of which in kernels.
    pub kernel_seconds: f64,
    /// Of which outside.
    pub outside_seconds: f64,
    /// Whether launches were timed by the device's own clock, else ops by the host's.
    pub by_device: bool,
    /// The limits.
    pub ceiling: Ceiling,
    /// Kernels, those that took longest first.
    pub kernels: Vec<KernelFigures>,
    /// Stages and their parts, each behind what it is part of.
    pub stages: Vec<StageFigures>,
    #[serde(skip)]
    flame: FlamePart,
}

impl ProfileReport {
    /// Of the `profile` of `step` on a `device` of those limits.
    pub fn new(step: &str, device: String, profile: &Profile, ceiling: Ceiling) -> Self {
        let rows = profile.kernels();
        let kernel_seconds: f64 = rows.iter().map(|row| row.seconds).sum();
        let stages = Stages::new(profile);
        ProfileReport {
            version: env!("CARGO_PKG_VERSION").into(),
            revision: git_revision(),
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            step: step.into(),
            device,
            threads: rayon::current_num_threads(),
            stopped: None,
            seconds: profile.seconds,
            kernel_seconds,
            outside_seconds: (profile.seconds - kernel_seconds).max(0.0),
            by_device: profile.by_device,
            kernels: rows.iter().map(|row| KernelFigures::new(row, kernel_seconds, &ceiling)).collect(),
            ceiling,
            stages: stages.figures(),
            flame: stages.flame(step, profile),
        }
    }

    /// A row a kernel, then all of them, then the time outside.
    pub fn kernel_table(&self) -> Table {
        let ceilings = ["of compute", "of memory"];
        let right =
            ["calls", "ms", "of kernels", "GFLOP", "MB", "GFLOP/s", "GB/s"].into_iter().chain(ceilings);
        let columns = [("kernel", Align::Left)].into_iter().chain(right.map(|name| (name, Align::Right)));
        let mut table = Table::new(columns.chain([("bound", Align::Left)]));
        let percent = |share: f64| if share > 0.0 { format!("{:.1} %", 100.0 * share) } else { "-".into() };
        for row in &self.kernels {
            let texts = [
                row.kernel.clone(),
                row.calls.to_string(),
                format!("{:.3}", row.seconds * 1e3),
                format!("{:.1} %", 100.0 * row.share),
                told(row.flops / 1e9),
                told(row.bytes / 1e6),
                told(row.gflops),
                told(row.gb_per_s),
                percent(row.share_of_compute),
                percent(row.share_of_memory),
                row.bound.map_or("-", Bound::name).to_string(),
            ];
            table.row(texts.into_iter().map(Cell::new).collect());
        }
        table.rule();
        let calls: usize = self.kernels.iter().map(|row| row.calls).sum();
        let all = ["all kernels".into(), calls.to_string(), format!("{:.3}", self.kernel_seconds * 1e3)];
        table.row(all.into_iter().map(Cell::new).collect());
        let outside = ["outside kernels".into(), String::new(), format!("{:.3}", self.outside_seconds * 1e3)];
        table.row(outside.into_iter().map(Cell::new).collect());
        table
    }

    /// A row a stage and a part of it that took a share worth telling.
    pub fn stage_table(&self) -> Table {
        let right = ["calls", "s", "of wall time", "in kernels"].map(|name| (name, Align::Right));
        let mut table = Table::new([("stage", Align::Left)].into_iter().chain(right));
        let shown = |stage: &&StageFigures| {
            stage.path.len() <= 2 && stage.seconds.max(stage.kernel_seconds) >= 0.002 * self.seconds
        };
        for stage in self.stages.iter().filter(shown) {
            let texts = [
                stage.path.join(" / "),
                stage.calls.to_string(),
                format!("{:.3}", stage.seconds),
                format!("{:.1} %", 100.0 * stage.seconds / self.seconds.max(f64::MIN_POSITIVE)),
                format!("{:.3}", stage.kernel_seconds),
            ];
            table.row(texts.into_iter().map(Cell::new).collect());
        }
        table
    }

    /// The device, and threads where it does not tell them itself.
    pub fn machine(&self) -> String {
        let threads = format!("{} threads", self.threads);
        if self.device.contains(&threads) {
            self.device.clone()
        } else {
            format!("{}, {threads}", self.device)
        }
    }

    /// The limits in words.
    pub fn ceiling_line(&self) -> String {
        format!("ceilings of the same run: {}", self.ceiling.line())
    }

    /// What is to be said of figures that cannot be; nothing where there are none.
    pub fn remark(&self) -> Option<String> {
        let above: Vec<&str> =
            self.kernels.iter().filter(|k| k.share_of_compute > 1.0).map(|k| k.kernel.as_str()).collect();
        (!above.is_empty()).then(|| {
            format!(
                "above 100 % of compute: {}. The machine was busier, or slower, while the ceiling was measured than while these ran: \
                 measure again",
                above.join(", ")
            )
        })
    }

    /// The page: self-contained HTML with the roofline and the flame of stages.
    pub fn html(&self) -> String {
        page::page(self)
    }

    /// Writes the page.
    pub fn write_html(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, |out| out.write_all(self.html().as_bytes()))
    }

    /// Writes the report as data.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::profile::{Launched, Range};
    use crate::device::{Cost, DType};
    use crate::report::ComputeLimit;

    fn report() -> ProfileReport {
        let range = |name: &str, parent, flops| Range {
            name: name.into(),
            parent,
            start: 0.5,
            seconds: 2.5,
            cost: Cost { flops, bytes: flops / 2 },
            factors: DType::F32,
        };
        let launch = |kernel: &'static str, range, seconds| Launched {
            kernel: kernel.into(),
            range: Some(range),
            start: 1.0,
            seconds,
        };
        let profile = Profile {
            ranges: vec![
                range("<label>", None, 0),
                range("matmul", Some(0), 4_000_000_000),
                range("copy", Some(0), 0),
            ],
            launches: vec![launch("lea_a", 1, 1.5), launch("lea_b", 1, 0.5), launch("lea_c", 2, 0.25)],
            seconds: 4.0,
            by_device: true,
        };
        let limit = ComputeLimit { dtype: "f32".into(), gflops: 10.0, product_gflops: 9.0, extent: 64 };
        let ceiling = Ceiling { compute: vec![limit], gb_per_s: 2.0, copied: 8_000_000 };
        ProfileReport::new("label", "cuda".into(), &profile, ceiling)
    }

    #[test]
    fn the_table_tells_shares_rates_and_what_bounds_a_kernel() {
        let text = report().kernel_table().to_text();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[2], "lea_a 1 1500.000 66.7 % 3.00 1500 2.00 1.00 20.0 % 50.0 % memory");
        assert_eq!(lines[4], "lea_c 1 250.000 11.1 % - - - - - - -");
        assert_eq!(lines[6..], ["all kernels 3 2250.000", "outside kernels 1750.000"]);
        let shares: f64 = report().kernels.iter().map(|kernel| kernel.share).sum();
        assert!((shares - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_page_shows_roofline_and_flame_and_escapes_every_name() {
        let page = report().html();
        assert_eq!(page.matches("<svg").count(), 2, "{page}");
        assert!(page.contains("&lt;label&gt;") && !page.contains("<label>"));
        assert!(page.contains("outside kernels") && !page.contains("NaN"));
        assert!(page.contains("do not tell their work: lea_c (11.1 %)."));
        assert!(!page.contains("<script") && !page.contains("src="));
    }
}
