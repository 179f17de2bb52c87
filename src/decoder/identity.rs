//! Which decoder it is: what is trained on one is worth nothing on another.

use super::weights::Weights;
use crate::Result;
use crate::files::{self, FileHash};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The files of a model folder that decide what the decoder computes. Where the folder lies is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderIdentity {
    /// `config.json`.
    pub config: FileHash,
    /// The weights, sorted by name.
    pub weights: Vec<FileHash>,
}

impl DecoderIdentity {
    /// Reads and hashes the files of the model folder `dir`, at about 1 GB a second.
    pub fn of(dir: &Path) -> Result<Self> {
        let config = FileHash::of(&dir.join("config.json"))?;
        let mut paths: Vec<_> = Weights::open(dir)?.paths().map(Path::to_path_buf).collect();
        paths.sort();
        let weights = paths.iter().map(|path| FileHash::of(path)).collect::<Result<_>>()?;
        Ok(DecoderIdentity { config, weights })
    }

    /// Hex SHA-256 over all of it.
    pub fn hash(&self) -> String {
        files::sha256(&serde_json::to_vec(self).expect("numbers and strings serialise"))
    }

    /// How `found` differs, in words; `None` where it does not.
    pub fn difference(&self, found: &DecoderIdentity) -> Option<String> {
        let names = |identity: &DecoderIdentity| {
            identity.weights.iter().map(|w| w.file.clone()).collect::<Vec<_>>().join(", ")
        };
        if names(self) != names(found) {
            return Some(format!("its weights are in {}, expected {}", names(found), names(self)));
        }
        let expected = std::iter::once(&self.config).chain(&self.weights);
        let found = std::iter::once(&found.config).chain(&found.weights);
        expected.zip(found).find(|(expected, found)| expected != found).map(|(expected, found)| {
            format!(
                "{} has {} bytes and SHA-256 {}, expected {} bytes and {}",
                found.file, found.bytes, found.sha256, expected.bytes, expected.sha256
            )
        })
    }
}
