//! What commands print on standard output.

use crate::{Error, Result};
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Prints `text` and a line break. A reader that has gone away (as `head` does) is no error.
pub(super) fn line(text: impl Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}
