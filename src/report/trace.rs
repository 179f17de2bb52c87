//! A profile as a table by kernel, and as a trace for Perfetto (ui.perfetto.dev) or Chrome (chrome://tracing).

use super::table::{Align, Cell, Table};
use crate::device::profile::{Profile, Range};
use crate::{Result, files};
use serde_json::{Value, json};
use std::path::Path;

/// Tracks of the trace: the host's ranges, the same ranges from their first launch to the end of their last, launches.
const TRACKS: [(&str, u32); 3] = [("host", 1), ("device, ranges", 2), ("device, kernels", 3)];

/// A row a kernel: calls, time, its share of all kernels' time, and rates by the least work of its ops. The last row tells
/// the time of all kernels, beside the time that went by.
pub fn kernel_table(profile: &Profile) -> Table {
    let right = ["calls", "ms", "share", "GFLOP", "MB", "GFLOP/s", "GB/s"].map(|name| (name, Align::Right));
    let mut table = Table::new([("kernel", Align::Left)].into_iter().chain(right));
    let kernels = profile.kernels();
    let all: f64 = kernels.iter().map(|row| row.seconds).sum();
    let rate = |work: f64, seconds: f64| match work > 0.0 && seconds > 0.0 {
        true => format!("{:.1}", work / seconds / 1e9),
        false => "-".into(),
    };
    let told = |work: f64, unit: f64| if work > 0.0 { format!("{:.2}", work / unit) } else { "-".into() };
    for row in &kernels {
        let texts = [
            row.kernel.to_string(),
            row.calls.to_string(),
            format!("{:.3}", row.seconds * 1e3),
            format!("{:.1} %", if all > 0.0 { 100.0 * row.seconds / all } else { 0.0 }),
            told(row.flops, 1e9),
            told(row.bytes, 1e6),
            rate(row.flops, row.seconds),
            rate(row.bytes, row.seconds),
        ];
        table.row(texts.into_iter().map(Cell::new).collect());
    }
    table.rule();
    let calls: usize = kernels.iter().map(|row| row.calls).sum();
    let busy = format!("all, of {:.3} ms that went by", profile.seconds * 1e3);
    table.row([busy, calls.to_string(), format!("{:.3}", all * 1e3)].into_iter().map(Cell::new).collect());
    table
}

/// Writes the profile in Chrome's trace format; times there are microseconds.
pub fn write_trace(path: &Path, device: &str, profile: &Profile) -> Result<()> {
    files::write_atomic(path, |out| writeln!(out, "{}", trace(device, profile)))
}

fn trace(device: &str, profile: &Profile) -> Value {
    let name = |kind: &str, track: u32, name: &str| json!({"ph": "M", "pid": 1, "tid": track, "name": kind, "args": {"name": name}});
    let mut events = vec![name("process_name", 0, device)];
    events.extend(TRACKS.map(|(track, number)| name("thread_name", number, track)));
    let on_device = device_times(profile);
    for (range, on_device) in profile.ranges.iter().zip(on_device) {
        events.push(event(&range.name, TRACKS[0].1, range.start, range.seconds, work(range)));
        if let Some((from, to)) = on_device {
            events.push(event(&range.name, TRACKS[1].1, from, to - from, work(range)));
        }
    }
    for launch in &profile.launches {
        let place = launch.range.map(|i| json!({"in": path_of(&profile.ranges, i)}));
        let place = place.unwrap_or_else(|| json!({}));
        events.push(event(&launch.kernel, TRACKS[2].1, launch.start, launch.seconds, place));
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events})
}

fn event(name: &str, track: u32, start: f64, seconds: f64, args: Value) -> Value {
    json!({"ph": "X", "pid": 1, "tid": track, "name": name, "ts": start * 1e6, "dur": seconds * 1e6, "args": args})
}

fn work(range: &Range) -> Value {
    match range.cost.flops + range.cost.bytes {
        0 => json!({}),
        _ => json!({"flops": range.cost.flops, "bytes": range.cost.bytes}),
    }
}

/// "trunks / layer 3 / matmul".
fn path_of(ranges: &[Range], index: usize) -> String {
    let mut names: Vec<&str> =
        std::iter::successors(Some(index), |&i| ranges[i].parent).map(|i| ranges[i].name.as_str()).collect();
    names.reverse();
    names.join(" / ")
}

/// Of each range, when its first launch began and its last one ended; none where it has no launch.
fn device_times(profile: &Profile) -> Vec<Option<(f64, f64)>> {
    let mut times: Vec<Option<(f64, f64)>> = vec![None; profile.ranges.len()];
    for launch in &profile.launches {
        let (start, end) = (launch.start, launch.start + launch.seconds);
        for i in std::iter::successors(launch.range, |&i| profile.ranges[i].parent) {
            let (from, to) = times[i].unwrap_or((start, end));
            times[i] = Some((from.min(start), to.max(end)));
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cost;
    use crate::device::profile::Launched;

    fn sample() -> Profile {
        let range = |name: &str, parent, flops| Range {
            name: name.into(),
            parent,
            start: 0.5,
            seconds: 0.25,
            cost: Cost { flops, bytes: flops / 2 },
        };
        let launch = |kernel: &'static str, start, seconds| Launched {
            kernel: kernel.into(),
            range: Some(1),
            start,
            seconds,
        };
        Profile {
            ranges: vec![range("layer 0", None, 0), range("matmul", Some(0), 4_000_000_000)],
            launches: vec![launch("lea_a", 1.0, 1.5), launch("lea_b", 3.0, 0.5)],
            seconds: 4.0,
        }
    }

    #[test]
    fn the_table_tells_shares_and_rates() {
        let text = kernel_table(&sample()).to_text();
        let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        assert_eq!(lines[2], ["lea_a", "1", "1500.000", "75.0", "%", "3.00", "1500.00", "2.0", "1.0"]);
        assert_eq!(lines[3], ["lea_b", "1", "500.000", "25.0", "%", "1.00", "500.00", "2.0", "1.0"]);
        assert_eq!(lines[5][..3], ["all,", "of", "4000.000"]);
        assert_eq!(lines[5][lines[5].len() - 2..], ["2", "2000.000"]);
    }

    #[test]
    fn ranges_on_the_device_span_their_launches() {
        let trace = trace("cuda", &sample());
        let events = trace["traceEvents"].as_array().unwrap();
        let on = |track: u32, name: &str| {
            let found = events.iter().find(|e| e["ph"] == "X" && e["tid"] == track && e["name"] == name);
            found.map(|e| (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap()))
        };
        assert_eq!(on(1, "layer 0"), Some((0.5e6, 0.25e6)));
        assert_eq!(on(2, "layer 0"), Some((1e6, 2.5e6)));
        assert_eq!(on(3, "lea_b"), Some((3e6, 0.5e6)));
        let kernel = events.iter().find(|e| e["name"] == "lea_b").unwrap();
        assert_eq!(kernel["args"]["in"], "layer 0 / matmul");
    }
}
