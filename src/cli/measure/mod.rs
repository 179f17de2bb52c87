//! What `lea bench` and `lea profile` measure with: ceilings of the device, order statistics, the process's memory.

pub mod ceilings;
pub mod statistics;

/// Largest resident memory of this process so far in MB (10⁶ bytes); `None` where the system does not tell.
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
