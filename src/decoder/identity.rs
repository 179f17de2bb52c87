//! Which decoder it is: what is trained on one is worth nothing on another.
//!
//! Every byte of the weights counts. A file of at most [`WHOLE`] bytes is told by its SHA-256, a larger one by
//! that over its chunks, which [`weight_hash`] keeps from one start to the next.

use super::weights::Weights;
use super::{ModelFolder, weight_hash};
use crate::Result;
use crate::files::{self, FileHash};
use crate::tensor::file::TensorFile;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Largest weight file that is hashed in one piece, at every start.
const WHOLE: u64 = 64 << 20;

fn hash(file: &TensorFile, cache: Option<&Path>) -> Result<FileHash> {
    let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sha256 = match file.len() <= WHOLE {
        true => files::sha256(file.all()),
        false => weight_hash::hash(file, cache)?,
    };
    Ok(FileHash { file: name, bytes: file.len(), sha256 })
}

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
    /// Of the model folder `dir`; see [`ModelFolder::identity`].
    pub fn of(dir: &Path) -> Result<Self> {
        ModelFolder::open(dir)?.identity()
    }

    /// Of a configuration and open weights, hashes of large files looked up in the folder `cache`.
    pub(super) fn new(config: FileHash, weights: &Weights, cache: Option<&Path>) -> Result<Self> {
        let hash = |file| hash(file, cache);
        let mut weights: Vec<FileHash> = weights.shards().iter().map(hash).collect::<Result<_>>()?;
        weights.sort_by(|a, b| a.file.cmp(&b.file));
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
            let large = found.bytes > WHOLE && found.bytes == expected.bytes;
            format!(
                "{} has {} bytes and SHA-256 {}, expected {} bytes and {}{}",
                found.file,
                found.bytes,
                found.sha256,
                expected.bytes,
                expected.sha256,
                // Both cannot be told apart here: a hash tells nothing of how it was made.
                if large {
                    " (which may be one of samples only, as lea once made for large files)"
                } else {
                    ""
                }
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_file_and_what_an_older_hash_may_be() {
        let file =
            |name: &str, bytes, sha256: &str| FileHash { file: name.into(), bytes, sha256: sha256.into() };
        let of = |bytes, sha256| DecoderIdentity {
            config: file("config.json", 9, "c"),
            weights: vec![file("model.safetensors", bytes, sha256)],
        };
        assert_eq!(of(9, "a").difference(&of(9, "a")), None);
        let small = of(9, "a").difference(&of(9, "b")).unwrap();
        assert_eq!(small, "model.safetensors has 9 bytes and SHA-256 b, expected 9 bytes and a");
        let large = of(WHOLE + 1, "a").difference(&of(WHOLE + 1, "b")).unwrap();
        assert!(large.contains("samples"), "{large}");
    }
}
