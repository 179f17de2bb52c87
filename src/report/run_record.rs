//! `run.json`: what was run, on what and how long it took.

use super::{Metrics, json};
use crate::Result;
use crate::device::Device;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// One stage of a run and its wall time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Name of the stage, as the command line calls it.
    pub name: String,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of `lea`.
    pub version: String,
    /// Git revision of the source, with `-dirty` when files were changed; absent when unknown.
    pub git_revision: Option<String>,
    /// The command line, word by word.
    pub command_line: Vec<String>,
    /// Start of the run, UTC, as RFC 3339.
    pub started: String,
    /// Device that computed, with its name.
    pub device: String,
    /// Driver of the device; absent for the CPU.
    pub driver: Option<String>,
    /// Threads that the CPU path could use.
    pub threads: usize,
    /// SHA-256 of the data; absent until it has been read.
    pub data_hash: Option<String>,
    /// Every seed of the run.
    pub seeds: Vec<u64>,
    /// The whole configuration after flags were laid over the file.
    pub configuration: serde_json::Value,
    /// Wall time of every stage, in the order of the run.
    pub stages: Vec<Stage>,
    /// What the recommenders reached; absent for runs that evaluate none.
    pub metrics: Option<Metrics>,
}

impl RunRecord {
    /// A record of a run that starts now on `device`, with version, revision, command line and threads filled in.
    pub fn start(device: &Device, configuration: serde_json::Value, seeds: Vec<u64>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        RunRecord {
            version: env!("CARGO_PKG_VERSION").into(),
            git_revision: git_revision(),
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            started: utc(now),
            device: device.describe(),
            driver: device.driver(),
            threads: rayon::current_num_threads(),
            data_hash: None,
            seeds,
            configuration,
            stages: Vec::new(),
            metrics: None,
        }
    }

    /// Records that the stage `name` took `seconds`.
    pub fn add_stage(&mut self, name: impl Into<String>, seconds: f64) {
        self.stages.push(Stage { name: name.into(), seconds });
    }

    /// Writes `run.json`.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }

    /// Reads `run.json`; what does not fit is an error with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        json::read(path, "the file is not a run record of this version: repeat the run")
    }
}

/// Revision of the source that the program was built from, as the build recorded it; nothing where it was built
/// outside of a repository.
pub fn git_revision() -> Option<String> {
    option_env!("LEA_GIT_REVISION").map(String::from)
}

/// Seconds since 1970 as RFC 3339 in UTC.
fn utc(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_known_instants() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        let mut record =
            RunRecord::start(&Device::Cpu, serde_json::json!({"b": 1, "a": {"rate": 0.1}}), vec![1, 2]);
        record.add_stage("label", 12.25);
        record.data_hash = Some("ab".into());
        record.write(&path).unwrap();
        let back = RunRecord::read(&path).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.configuration.as_object().unwrap().keys().collect::<Vec<_>>(), ["b", "a"]);
        assert!(!back.command_line.is_empty() && back.threads > 0);
    }

    #[test]
    fn a_truncated_record_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        RunRecord::start(&Device::Cpu, serde_json::Value::Null, vec![]).write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let message = RunRecord::read(&path).unwrap_err().to_string();
        assert!(message.contains("run.json: line ") && message.contains("repeat the run"), "{message}");
    }
}
