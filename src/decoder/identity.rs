//! Which decoder it is: what is trained on one is worth nothing on another.
//!
//! A weight file of at most [`WHOLE`] bytes is hashed in full. Of a larger one, which would take seconds at each start,
//! the header and [`SAMPLES`] pieces of [`PIECE`] bytes of every tensor are, the first and the last among them: training
//! changes all weights of a tensor, and another file differs in all of them. What is not told apart is a change by hand
//! of single weights between the pieces.

use super::weights::Weights;
use crate::Result;
use crate::files::{self, FileHash};
use crate::tensor::file::TensorFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Largest weight file that is hashed in full.
const WHOLE: usize = 64 << 20;
/// Pieces that are hashed of every tensor of a larger file.
const SAMPLES: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 1 << 12;

fn hash(file: &TensorFile) -> FileHash {
    let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = file.all();
    let sha256 = if bytes.len() <= WHOLE { files::sha256(bytes) } else { sampled(file) };
    FileHash { file: name, bytes: bytes.len() as u64, sha256 }
}

/// Hex SHA-256 of the header and of pieces of every tensor, in the order of names.
fn sampled(file: &TensorFile) -> String {
    let (bytes, places) = (file.all(), file.places());
    // Else the system reads on behind every piece, and in the end much of the file.
    #[cfg(unix)]
    let _ = file.advise(memmap2::Advice::Random);
    let mut digest = Sha256::new();
    digest.update(b"lea-sampled-1");
    let data = places.values().map(|place| place.start).min().unwrap_or(bytes.len());
    digest.update(&bytes[..data]);
    for place in places.values() {
        let last = place.len().saturating_sub(PIECE);
        let starts = (0..SAMPLES).map(|i| place.start + last * i / (SAMPLES - 1));
        let mut done = place.start;
        for start in starts {
            let piece = start.max(done)..(start + PIECE).min(place.end);
            digest.update(&bytes[piece.start..piece.end.max(piece.start)]);
            done = piece.end.max(done);
        }
    }
    #[cfg(unix)]
    let _ = file.advise(memmap2::Advice::Normal);
    files::hex(&digest.finalize())
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
    /// Hashes the files of the model folder `dir`, large ones by samples.
    pub fn of(dir: &Path) -> Result<Self> {
        let config = FileHash::of(&dir.join("config.json"))?;
        let mut weights: Vec<FileHash> = Weights::open(dir)?.shards().iter().map(hash).collect();
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
            format!(
                "{} has {} bytes and SHA-256 {}, expected {} bytes and {}",
                found.file, found.bytes, found.sha256, expected.bytes, expected.sha256
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::tensor::{Tensor, file};
    use std::collections::BTreeMap;

    #[test]
    fn a_large_file_that_was_trained_on_has_another_hash() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, change: &dyn Fn(&mut [f32])| {
            let mut values = vec![0.5f32; 100_000];
            change(&mut values);
            let large = Tensor::from_slice(&Device::Cpu, &values, &[1000, 100]).unwrap();
            let small = Tensor::from_slice(&Device::Cpu, &values[..30], &[30]).unwrap();
            let path = dir.path().join(name);
            file::write(&path, &[("a".into(), large), ("b".into(), small)], &BTreeMap::new()).unwrap();
            sampled(&TensorFile::open(&path).unwrap())
        };
        let before = write("x", &|_| ());
        assert_eq!(write("y", &|_| ()), before);
        let trained = write("x", &|values| values[40..].iter_mut().for_each(|x| *x += 1e-3));
        assert_ne!(trained, before);
        for single in [0, 7, 99_999] {
            assert_ne!(write("x", &|values| values[single] = 0.25), before, "{single}");
        }
    }
}
