//! Progress of long steps: a bar with rate and time left on a terminal, plain lines elsewhere, and the step's
//! metrics as JSON lines in a file.

use crate::{Error, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How often a plain progress line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// All bars of the process: steps that run side by side have a line each.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Progress of one long step.
pub struct Progress {
    bar: ProgressBar,
    name: String,
    unit: &'static str,
    total: u64,
    start: Instant,
    /// Items that an earlier run had done: they tell nothing of this one's rate.
    before: u64,
    last_line: Instant,
    plain: bool,
    message: String,
}

impl Progress {
    /// Starts a step called `name` of `total` items counted in `unit` (users, tokens, steps …).
    pub fn new(name: impl Into<String>, total: u64, unit: &'static str) -> Self {
        let name = name.into();
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { BARS.add(ProgressBar::new(total)) };
        let template = "{prefix:>10} [{bar:32}] {pos}/{len} {per_sec} eta {eta} {msg}";
        bar.set_style(
            ProgressStyle::with_template(template).expect("a constant template").progress_chars("=> "),
        );
        bar.set_prefix(name.clone());
        bar.set_length(total);
        let now = Instant::now();
        Progress {
            bar,
            name,
            unit,
            total,
            start: now,
            before: 0,
            last_line: now,
            plain,
            message: String::new(),
        }
    }

    /// Shows `message` (a loss, say) beside the bar.
    pub fn message(&mut self, message: impl Into<String>) {
        self.message = message.into();
        self.bar.set_message(self.message.clone());
    }

    /// Counts `done` items that an earlier run of the step did.
    pub fn resume(&mut self, done: u64) {
        self.before += done;
        self.bar.inc(done);
        self.bar.reset_eta();
    }

    /// Counts `by` more items.
    pub fn advance(&mut self, by: u64) {
        self.bar.inc(by);
        if self.plain && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.line("");
        }
    }

    fn line(&self, closing: &str) {
        let (done, seconds) = (self.bar.position(), self.start.elapsed().as_secs_f64());
        let rate = (done - self.before.min(done)) as f64 / seconds.max(1e-9);
        let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
        let time =
            if closing.is_empty() { format!("eta {left:.0} s") } else { format!("{closing} {seconds:.1} s") };
        let unit = self.unit;
        let text = format!(
            "{}: {done}/{} {unit}, {rate:.1} {unit}/s, {time} {}",
            self.name, self.total, self.message
        );
        BARS.suspend(|| eprintln!("{}", text.trim_end()));
    }

    /// Ends the step, leaving one closing line, and returns the seconds that it took.
    pub fn finish(self) -> f64 {
        // Before the bar is taken down, which would put its position at the end.
        self.line("done in");
        self.bar.finish_and_clear();
        self.start.elapsed().as_secs_f64()
    }
}

/// A stream of metrics, one JSON object a line.
pub struct MetricsLog {
    path: PathBuf,
    out: Option<BufWriter<File>>,
    bytes: u64,
}

impl MetricsLog {
    /// Creates the file (and its folder), replacing one of an earlier run.
    pub fn create(path: &Path) -> Result<Self> {
        let mut log = Self::open(path)?;
        log.cut(0)?;
        Ok(log)
    }

    /// Opens the file of a run that is gone on with (creating it where there is none) to append to it.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        }
        let failed = |e| Error::io(path, e);
        let file = File::options().append(true).create(true).open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(MetricsLog { path: path.to_path_buf(), out: Some(BufWriter::new(file)), bytes })
    }

    /// A log that keeps nothing, for callers that want no file.
    pub fn none() -> Self {
        MetricsLog { path: PathBuf::new(), out: None, bytes: 0 }
    }

    /// Appends `record` as one line and flushes it, so that a killed run keeps what it had measured.
    pub fn write(&mut self, record: &serde_json::Value) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let line = format!("{record}\n");
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|e| Error::io(&self.path, e))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Bytes of all records so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes sure that what was written is on the disk.
    pub fn sync(&self) -> Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        out.get_ref().sync_all().map_err(|e| Error::io(&self.path, e))
    }

    /// Cuts the log back to its first `bytes`: what was written after a checkpoint will be written again.
    ///
    /// # Errors
    /// A log that is shorter: records would be missing.
    pub fn cut(&mut self, bytes: u64) -> Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        if self.bytes < bytes {
            let problem = format!("{} bytes, and the checkpoint follows {bytes}", self.bytes);
            let remedy = "the log was changed since: start again with --overwrite instead of --resume";
            return Err(Error::invalid(&self.path, "size", problem, remedy));
        }
        out.get_ref().set_len(bytes).map_err(|e| Error::io(&self.path, e))?;
        self.bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_that_is_gone_on_with_holds_each_record_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/metrics.jsonl");
        let mut log = MetricsLog::create(&path).unwrap();
        log.write(&json!({"step": 1})).unwrap();
        let kept = log.bytes();
        log.write(&json!({"step": 2})).unwrap();
        drop(log);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"ste").unwrap();
        let mut log = MetricsLog::open(&path).unwrap();
        log.cut(kept).unwrap();
        log.write(&json!({"step": 2})).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":2}\n");
        assert!(log.cut(100).unwrap_err().to_string().contains("22 bytes"));
        drop(MetricsLog::create(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
