//! A profile as a trace for Perfetto (ui.perfetto.dev) or Chrome (chrome://tracing).

use crate::device::profile::{Profile, Range};
use crate::{Result, files};
use serde_json::{Value, json};
use std::path::Path;

/// Tracks of the trace: the host's ranges, the same ranges from their first launch to the end of their last, launches.
const TRACKS: [(&str, u32); 3] = [("host", 1), ("device, ranges", 2), ("device, kernels", 3)];

/// Writes the profile in Chrome's trace format, a line an event; times there are microseconds.
pub fn write_trace(path: &Path, device: &str, profile: &Profile) -> Result<()> {
    files::write_atomic(path, |out| {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        let mut between = "\n";
        for_each_event(device, profile, &mut |event| {
            write!(out, "{between}{event}")?;
            between = ",\n";
            Ok(())
        })?;
        out.write_all(b"\n]}\n")
    })
}

/// Hands every event of the trace to `write`, one at a time: a long profile has millions.
fn for_each_event(
    device: &str,
    profile: &Profile,
    write: &mut dyn FnMut(Value) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let name = |kind: &str, track: u32, name: &str| json!({"ph": "M", "pid": 1, "tid": track, "name": kind, "args": {"name": name}});
    write(name("process_name", 0, device))?;
    TRACKS.iter().try_for_each(|(track, number)| write(name("thread_name", *number, track)))?;
    let on_device = device_times(profile);
    for (range, on_device) in profile.ranges.iter().zip(on_device) {
        write(event(&range.name, TRACKS[0].1, range.start, range.seconds, work(range)))?;
        if let Some((from, to)) = on_device {
            write(event(&range.name, TRACKS[1].1, from, to - from, work(range)))?;
        }
    }
    for launch in &profile.launches {
        let place = launch.range.map(|i| json!({"in": path_of(&profile.ranges, i)}));
        let place = place.unwrap_or_else(|| json!({}));
        write(event(&launch.kernel, TRACKS[2].1, launch.start, launch.seconds, place))?;
    }
    Ok(())
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
    use crate::device::profile::Launched;
    use crate::device::{Cost, DType};

    fn sample() -> Profile {
        let range = |name: &str, parent, flops| Range {
            name: name.into(),
            parent,
            start: 0.5,
            seconds: 0.25,
            cost: Cost { flops, bytes: flops / 2 },
            factors: DType::F32,
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
            by_device: true,
        }
    }

    #[test]
    fn ranges_on_the_device_span_their_launches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        write_trace(&path, "cuda", &sample()).unwrap();
        let trace: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
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
