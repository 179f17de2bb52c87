//! Tells why a test does not run here.

use std::fmt::Display;
use std::io::Write;

/// Writes `reason` where the reader sees it: text of the printing macros the test harness keeps to itself.
pub fn skipped(reason: impl Display) {
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}
