//! Files that were written, with their sizes: by these one that is gone or was cut short is told.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Size in bytes by name; `None` where only the file must be there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(super) struct Written(pub BTreeMap<String, Option<u64>>);

/// As a record has it: the older format has names alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Sizes(BTreeMap<String, Option<u64>>),
    Names(Vec<String>),
}

impl From<Stored> for Written {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Sizes(sizes) => Written(sizes),
            Stored::Names(names) => Written(names.into_iter().map(|name| (name, None)).collect()),
        }
    }
}

/// A file that is no longer as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name below the folder.
    pub name: String,
    /// Size in bytes now and when it was written; `None` where the file is gone.
    pub sizes: Option<(u64, u64)>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sizes {
            None => write!(f, "{} is gone", self.name),
            Some((now, was)) => write!(f, "{} has {now} bytes, was {was}", self.name),
        }
    }
}

impl Written {
    /// The files `names` of `dir` as they are now.
    pub fn measured(dir: &Path, names: impl IntoIterator<Item = String>) -> Self {
        let sized = |name: String| {
            // `lea report` writes the page anew, whenever it is asked to.
            let size = if name.ends_with(".html") { None } else { size(&dir.join(&name)) };
            (name, size)
        };
        Written(names.into_iter().map(sized).collect())
    }

    /// Those that are no files of `dir`, or have another size; logs may have grown if `log_grows`.
    pub fn missing(&self, dir: &Path, log_grows: bool) -> Vec<Missing> {
        let missing = |(name, was): (&String, &Option<u64>)| {
            let sizes = match (size(&dir.join(name)), *was) {
                (None, _) => None,
                (Some(_), None) => return None,
                (Some(now), Some(was)) if now == was => return None,
                (Some(now), Some(was)) if log_grows && name.ends_with(".jsonl") && now > was => return None,
                (Some(now), Some(was)) => Some((now, was)),
            };
            Some(Missing { name: name.clone(), sizes })
        };
        self.0.iter().filter_map(missing).collect()
    }
}

/// Of the file at `path`; `None` where there is none.
fn size(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(|found| found.is_file()).map(|found| found.len())
}
