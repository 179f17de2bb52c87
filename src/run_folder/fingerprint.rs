//! What a run is: everything that decides its results, and nothing else.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest text of a value in a message.
const SHOWN: usize = 60;

/// Command, settings, seeds and hashes of what is read, by name. The number of threads, paths and how often checkpoints
/// are written decide nothing and have no place here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(Map<String, Value>);

/// The first thing in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, with a dot before each inner key: `settings.fit.epochs`.
    pub field: String,
    /// Its value in the one.
    pub before: String,
    /// Its value in the other.
    pub now: String,
}

impl Fingerprint {
    /// Of `lea COMMAND` in this version of the program.
    pub fn new(command: &str) -> Self {
        let fields = [("version", env!("CARGO_PKG_VERSION")), ("command", command)];
        Fingerprint(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The command.
    pub fn command(&self) -> &str {
        self.0.get("command").and_then(Value::as_str).unwrap_or_default()
    }

    /// The device that computes, where the command does on one.
    pub fn device(&self) -> Option<&str> {
        self.0.get("device").and_then(Value::as_str)
    }

    /// Adds a field.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Result<Self> {
        // Through text, as it will be read back: a number then has one form only.
        let value = serde_json::to_string(&value).and_then(|text| serde_json::from_str(&text));
        let value = value.map_err(|e| {
            Error::setting(format!("{name} cannot be recorded: {e}"), "choose finite numbers")
        })?;
        self.0.insert(name.into(), value);
        Ok(self)
    }

    /// Where `now` differs first; `None` where it is the same run.
    pub fn difference(&self, now: &Fingerprint) -> Option<Difference> {
        differing_keys(&self.0, &now.0, "")
    }

    /// Hex SHA-256 of all of it.
    pub fn hash(&self) -> String {
        crate::files::sha256(Value::Object(self.0.clone()).to_string().as_bytes())
    }
}

fn differing_keys(before: &Map<String, Value>, now: &Map<String, Value>, prefix: &str) -> Option<Difference> {
    let added = now.keys().filter(|key| !before.contains_key(*key));
    before.keys().chain(added).find_map(|key| {
        let field = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        differing_values(before.get(key), now.get(key), field)
    })
}

fn differing_values(before: Option<&Value>, now: Option<&Value>, field: String) -> Option<Difference> {
    match (before, now) {
        (before, now) if before == now => None,
        (Some(Value::Object(before)), Some(Value::Object(now))) => differing_keys(before, now, &field),
        (before, now) => Some(Difference { field, before: shown(before), now: shown(now) }),
    }
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or("absent".into(), Value::to_string);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(settings: Value) -> Fingerprint {
        Fingerprint::new("fit").with("settings", settings).unwrap().with("data", "ab").unwrap()
    }

    #[test]
    fn the_first_difference_is_named_by_its_path_and_the_order_of_keys_is_none() {
        let before = run(json!({"fit": {"epochs": 2, "rate": 0.1}, "seed": 1}));
        assert_eq!(before.difference(&run(json!({"seed": 1, "fit": {"rate": 0.1, "epochs": 2}}))), None);
        let now = run(json!({"fit": {"epochs": 3, "rate": 0.1}, "seed": 2}));
        let difference = before.difference(&now).unwrap();
        assert_eq!(difference.field, "settings.fit.epochs");
        assert_eq!((&difference.before[..], &difference.now[..]), ("2", "3"));
        let more = run(json!({"fit": {"epochs": 2, "rate": 0.1, "clip": 1}, "seed": 1}));
        let difference = before.difference(&more).unwrap();
        assert_eq!((&difference.field[..], &difference.before[..]), ("settings.fit.clip", "absent"));
    }

    #[test]
    fn a_fingerprint_read_back_from_its_file_is_the_same_run() {
        let before = run(json!({"single": 0.1f32, "double": 1e-300, "whole": 2.0}));
        let text = serde_json::to_string(&before).unwrap();
        let back: Fingerprint = serde_json::from_str(&text).unwrap();
        assert_eq!(before.difference(&back), None);
        assert_eq!(before.hash(), back.hash());
    }
}
