//! Weights of a Hugging Face model folder: `model.safetensors`, or shards named by `model.safetensors.index.json`.

use crate::device::{DType, Device};
use crate::tensor::Tensor;
use crate::tensor::file::{self, TensorFile};
use crate::{Error, Result, files};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The open weight files of a model folder.
#[derive(Debug)]
pub struct Weights {
    /// What to name when a tensor is in none of the files.
    source: PathBuf,
    shards: Vec<TensorFile>,
    /// Shard of every tensor.
    place: BTreeMap<String, usize>,
}

impl Weights {
    /// Opens the folder's weight files and checks their headers.
    pub fn open(dir: &Path) -> Result<Self> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if single.exists() {
            let shard = TensorFile::open(&single)?;
            let place = shard.names().into_iter().map(|name| (name, 0)).collect();
            return Ok(Weights { source: single, shards: vec![shard], place });
        }
        if index.exists() {
            return Self::open_shards(dir, index);
        }
        let problem = format!("the folder has neither {SINGLE} nor {INDEX}");
        let remedy = "name a Hugging Face model folder with safetensors weights";
        Err(Error::invalid(dir, "weights", problem, remedy))
    }

    fn open_shards(dir: &Path, index: PathBuf) -> Result<Self> {
        let broken = |problem: String| {
            Error::invalid(&index, "weight_map", problem, "take the index from the model's publisher again")
        };
        let content: serde_json::Value =
            serde_json::from_str(&files::read_text(&index)?).map_err(|e| broken(e.to_string()))?;
        let map = content.get("weight_map").and_then(|m| m.as_object());
        let map = map.ok_or_else(|| broken("the key is missing or no table".into()))?;
        let mut shard_of: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut shards, mut place) = (Vec::new(), BTreeMap::new());
        for (tensor, shard) in map {
            let name = shard.as_str().filter(|name| is_file_name(name));
            let name = name.ok_or_else(|| broken(format!("{shard} of {tensor} is no file name")))?;
            if !shard_of.contains_key(name) {
                shards.push(TensorFile::open(&dir.join(name))?);
                shard_of.insert(name, shards.len() - 1);
            }
            place.insert(tensor.clone(), shard_of[name]);
        }
        Ok(Weights { source: index, shards, place })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// The open files, in the order of the index.
    pub(super) fn shards(&self) -> &[TensorFile] {
        &self.shards
    }

    /// Paths of the open files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(TensorFile::path)
    }

    /// Size of all files together in bytes.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(TensorFile::len).sum()
    }

    /// Element types of the tensors, each once, as the files name them.
    pub fn types(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.shards.iter().flat_map(TensorFile::types).collect();
        all.into_iter().collect()
    }

    /// Whether the folder has the tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.place.contains_key(name)
    }

    /// The tensor `name` of `shape` in float type `dtype`, a large one mapped and not read; missing, of another shape or damaged is an error.
    pub fn read(&self, name: &str, shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
        let Some(&shard) = self.place.get(name) else {
            let problem = format!("the tensor is missing, expected shape {shape:?}");
            let remedy = "check that config.json belongs to these weights, or fetch the folder again";
            return Err(Error::invalid(&self.source, format!("tensor {name}"), problem, remedy));
        };
        self.shards[shard].map(name, shape, device, dtype)
    }

    /// As [`Weights::read`], in the type that the device stores frozen weights in: for tensors that only products read.
    pub fn read_frozen(&self, name: &str, shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
        let stored = device.frozen_type_of(shape.last().copied().unwrap_or_default());
        if dtype != DType::F32 || stored == dtype {
            return self.read(name, shape, device, dtype);
        }
        // A file of that type is not read through f32.
        if self.place.get(name).and_then(|&shard| self.shards[shard].stored_type(name)) == Some(stored) {
            return self.read(name, shape, device, stored);
        }
        let host = self.read(name, shape, &Device::Cpu, dtype)?;
        Tensor::frozen(device, host.host(), shape)
    }
}

/// A plain name: a path that leaves the folder is refused.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Writes `dir/model.safetensors`, atomically.
pub fn write(dir: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    file::write(&dir.join(SINGLE), tensors, &metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(value: f32) -> Tensor {
        Tensor::from_slice(&Device::Cpu, &[value], &[1]).unwrap()
    }

    fn sharded(dir: &Path, index: &str) {
        for (shard, name, value) in [("one.safetensors", "a", 1.0), ("two.safetensors", "b", 2.0)] {
            file::write(&dir.join(shard), &[(name.into(), tensor(value))], &BTreeMap::new()).unwrap();
        }
        std::fs::write(dir.join(INDEX), index).unwrap();
    }

    #[test]
    fn shards_are_found_through_the_index() {
        let dir = tempfile::tempdir().unwrap();
        sharded(dir.path(), r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#);
        let weights = Weights::open(dir.path()).unwrap();
        let read = |name| weights.read(name, &[1], &Device::Cpu, DType::F32).unwrap().item().unwrap();
        assert_eq!((read("a"), read("b")), (1.0, 2.0));
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
        let error = weights.read("c", &[1], &Device::Cpu, DType::F32).unwrap_err().to_string();
        assert!(error.contains("tensor c: the tensor is missing"), "{error}");
    }

    #[test]
    fn a_wrong_index_is_an_error() {
        for (index, message) in [
            ("{", "weight_map"),
            ("{}", "the key is missing"),
            (r#"{"weight_map": {"a": "../one.safetensors"}}"#, "is no file name"),
            (r#"{"weight_map": {"a": 3}}"#, "is no file name"),
            (r#"{"weight_map": {"a": "three.safetensors"}}"#, "three.safetensors"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            sharded(dir.path(), index);
            let error = Weights::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(message), "{index}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        sharded(dir.path(), r#"{"weight_map": {"b": "one.safetensors"}}"#);
        let weights = Weights::open(dir.path()).unwrap();
        let error = weights.read("b", &[1], &Device::Cpu, DType::F32).unwrap_err().to_string();
        assert!(error.contains("one.safetensors") && error.contains("missing"), "{error}");
    }

    #[test]
    fn an_empty_folder_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = Weights::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("neither model.safetensors nor"), "{error}");
    }
}
