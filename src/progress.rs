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
        Progress { bar, name, unit, total, start: now, last_line: now, plain, message: String::new() }
    }

    /// Shows `message` (a loss, say) beside the bar.
    pub fn message(&mut self, message: impl Into<String>) {
        self.message = message.into();
        self.bar.set_message(self.message.clone());
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
        let rate = done as f64 / seconds.max(1e-9);
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
        self.bar.finish_and_clear();
        self.line("done in");
        self.start.elapsed().as_secs_f64()
    }
}

/// A stream of metrics, one JSON object a line.
pub struct MetricsLog {
    path: PathBuf,
    out: Option<BufWriter<File>>,
}

impl MetricsLog {
    /// Creates the file (and its folder), replacing one of an earlier run.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        }
        let file = File::create(path).map_err(|e| Error::io(path, e))?;
        Ok(MetricsLog { path: path.to_path_buf(), out: Some(BufWriter::new(file)) })
    }

    /// A log that keeps nothing, for callers that want no file.
    pub fn none() -> Self {
        MetricsLog { path: PathBuf::new(), out: None }
    }

    /// Appends `record` as one line and flushes it, so that a killed run keeps what it had measured.
    pub fn write(&mut self, record: &serde_json::Value) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        writeln!(out, "{record}").and_then(|()| out.flush()).map_err(|e| Error::io(&self.path, e))
    }
}
