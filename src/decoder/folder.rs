//! A model folder that is opened once: what is computed with and what is hashed are the same open files.

use super::weights::Weights;
use super::{Decoder, DecoderConfig, DecoderIdentity, weight_hash};
use crate::device::{DType, Device};
use crate::files::{self, FileHash};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

const CONFIG: &str = "config.json";

/// An open model folder: the configuration is read and checked, the headers of the weights are checked, the weights
/// are mapped and not read. A file that is replaced afterwards by renaming another over it changes nothing here.
#[derive(Debug)]
pub struct ModelFolder {
    dir: PathBuf,
    config: DecoderConfig,
    config_hash: FileHash,
    weights: Arc<Weights>,
}

impl ModelFolder {
    /// Opens the folder `dir`: `config.json` and safetensors weights.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = files::read_text(&path)?;
        let config = DecoderConfig::parse(&text, &path)?;
        let sha256 = files::sha256(text.as_bytes());
        let config_hash = FileHash { file: CONFIG.into(), bytes: text.len() as u64, sha256 };
        Ok(ModelFolder { dir: dir.into(), config, config_hash, weights: Arc::new(Weights::open(dir)?) })
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Shape and constants of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The open weight files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The decoder, frozen, computed with in `dtype` (f32; f64 for references), its projections stored as `device` stores
    /// frozen weights. A tensor that is missing, has a wrong
    /// shape or is unknown is an error.
    pub fn decoder(&self, device: &Device, dtype: DType) -> Result<Decoder> {
        Decoder::from_weights(self.config.clone(), (&self.dir, &self.weights), device, dtype)
    }

    /// Which decoder it is: hashes every byte. The hashes of large files are looked up, and kept, in
    /// `$XDG_CACHE_HOME/lea` or `~/.cache/lea`.
    pub fn identity(&self) -> Result<DecoderIdentity> {
        identity(self.config_hash.clone(), &self.weights)
    }

    /// As [`ModelFolder::identity`], by rayon's threads while this one goes on.
    pub(crate) fn identity_meanwhile(&self) -> PendingIdentity {
        let (tell, told) = sync_channel(1);
        let (config, weights) = (self.config_hash.clone(), self.weights.clone());
        // Nobody may wait for it any more: the start has failed for another reason.
        rayon::spawn(move || drop(tell.send(identity(config, &weights))));
        PendingIdentity(told)
    }
}

fn identity(config: FileHash, weights: &Weights) -> Result<DecoderIdentity> {
    DecoderIdentity::new(config, weights, weight_hash::cache_folder().as_deref())
}

/// An identity that is being hashed.
#[derive(Debug)]
pub(crate) struct PendingIdentity(Receiver<Result<DecoderIdentity>>);

impl PendingIdentity {
    /// Waits for it. Not to be called on a thread of rayon's, which may be the one that is waited for.
    pub(crate) fn wait(self) -> Result<DecoderIdentity> {
        self.0.recv().unwrap_or_else(|_| {
            Err(Error::setting("hashing the decoder's weights ended without a hash", "start anew"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DecoderConfig {
        DecoderConfig::parse(
            r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "vocab_size": 30, "max_position_embeddings": 16}"#,
            Path::new(CONFIG),
        )
        .unwrap()
    }

    fn save(seed: u64, dir: &Path) {
        Decoder::random(config(), seed, &Device::Cpu, DType::F32, false).unwrap().save(dir).unwrap();
    }

    fn embedding(decoder: &Decoder) -> Vec<f32> {
        decoder.embed.value().to_vec().unwrap()
    }

    #[test]
    fn decoder_and_identity_are_of_the_files_that_were_opened_whatever_lies_there_by_now() {
        let dir = tempfile::tempdir().unwrap();
        save(1, dir.path());
        let first = DecoderIdentity::of(dir.path()).unwrap();
        let values = embedding(&Decoder::load(dir.path(), &Device::Cpu, DType::F32).unwrap());
        let opened = ModelFolder::open(dir.path()).unwrap();
        // Replaces both files by renaming others over them.
        save(2, dir.path());
        std::fs::remove_file(dir.path().join(CONFIG)).unwrap();
        assert_eq!(opened.identity().unwrap(), first);
        assert_eq!(opened.identity_meanwhile().wait().unwrap(), first);
        assert_eq!(embedding(&opened.decoder(&Device::Cpu, DType::F32).unwrap()), values);

        save(2, dir.path());
        let second = ModelFolder::open(dir.path()).unwrap();
        assert_ne!(second.identity_meanwhile().wait().unwrap(), first);
        assert_ne!(embedding(&second.decoder(&Device::Cpu, DType::F32).unwrap()), values);
    }

    #[test]
    fn the_identity_is_that_of_the_files_bytes() {
        let dir = tempfile::tempdir().unwrap();
        save(1, dir.path());
        let identity = ModelFolder::open(dir.path()).unwrap().identity().unwrap();
        assert_eq!(identity.config, FileHash::of(&dir.path().join(CONFIG)).unwrap());
        assert_eq!(identity.weights, [FileHash::of(&dir.path().join("model.safetensors")).unwrap()]);
    }
}
