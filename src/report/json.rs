//! JSON files with errors that name the place: written atomically, indented, in a fixed order of keys.

use crate::{Error, Result, files};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::path::Path;

/// Writes `value` to `path` as indented JSON. Equal values give equal bytes.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::invalid(path, "JSON", e.to_string(), "nothing was written; check the values"))?;
    files::write_atomic(path, |out| writeln!(out, "{text}"))
}

/// Reads `path`, giving line and column of whatever is wrong and `remedy` as what to do.
pub(super) fn read<T: DeserializeOwned>(path: &Path, remedy: &str) -> Result<T> {
    let text = files::read_text(path)?;
    serde_json::from_str(&text).map_err(|e| {
        let message = e.to_string();
        // serde_json ends its messages with the place, which goes before the problem here.
        let problem = message.rsplit_once(" at line ").map_or(message.as_str(), |(problem, _)| problem);
        Error::invalid(path, format!("line {}, column {}", e.line(), e.column()), problem, remedy)
    })
}

/// Reads `null`, which is how JSON stores NaN and infinities, as NaN.
pub(super) fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
