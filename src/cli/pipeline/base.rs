//! The decoder that an LE is made of.

use super::environment::texts;
use crate::Result;
use crate::data::Dataset;
use crate::decoder::{
    Decoder, DecoderIdentity, ModelFolder, PendingIdentity, PretrainReport, Tokenizer, weights::Weights,
};
use crate::device::{DType, Device};
use crate::files::FileHash;
use crate::le::ItemTokenConfig;
use crate::le::item_file::ItemTokenOrigin;
use crate::le::item_tokens::{ItemTokens, train_item_tokens};
use crate::progress::MetricsLog;
use crate::tensor::checkpoint::Checkpoints;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The decoder that an LE is made of.
pub struct Base {
    /// Frozen.
    pub decoder: Decoder,
    /// Where it lies.
    pub dir: PathBuf,
    /// Which one it is.
    pub identity: DecoderIdentity,
    /// How it was trained, where it was.
    pub pretrained: Option<PretrainReport>,
    tokenizer: OnceLock<Tokenizer>,
}

/// A model folder on its way to a [`Base`]: its weights, open once, are being hashed while the caller reads the rest of
/// what it needs.
pub struct OpenBase {
    folder: ModelFolder,
    identity: PendingIdentity,
}

impl OpenBase {
    /// Opens the model folder `dir` and begins to hash it.
    pub fn new(dir: &Path) -> Result<Self> {
        let folder = ModelFolder::open(dir)?;
        Ok(OpenBase { identity: folder.identity_meanwhile(), folder })
    }

    /// The open weight files.
    pub fn weights(&self) -> &Weights {
        self.folder.weights()
    }

    /// The decoder on `device` with its tokenizer, hashed to the end.
    pub fn load(self, device: &Device) -> Result<Base> {
        self.finish(device, |folder| Ok(Tokenizer::load(folder.dir(), folder.config())?.into()))
    }

    /// As [`OpenBase::load`] for what reads no text: the tokenizer, a large one of which takes half a second, stays
    /// unread until it is asked for.
    pub fn load_for_labels(self, device: &Device) -> Result<Base> {
        self.finish(device, |_| Ok(OnceLock::new()))
    }

    /// Last, and before any output is touched, comes what takes longest: every fingerprint names the decoder.
    fn finish(
        self,
        device: &Device,
        tokenizer: impl FnOnce(&ModelFolder) -> Result<OnceLock<Tokenizer>>,
    ) -> Result<Base> {
        let decoder = self.folder.decoder(device, DType::F32)?;
        let tokenizer = tokenizer(&self.folder)?;
        let dir = self.folder.dir().to_path_buf();
        Ok(Base { decoder, dir, identity: self.identity.wait()?, pretrained: None, tokenizer })
    }
}

impl Base {
    /// A decoder that has just been trained and saved in `dir`.
    pub fn trained(
        dir: PathBuf,
        decoder: Decoder,
        tokenizer: Tokenizer,
        report: PretrainReport,
    ) -> Result<Self> {
        let identity = DecoderIdentity::of(&dir)?;
        Ok(Base { decoder, dir, identity, pretrained: Some(report), tokenizer: OnceLock::from(tokenizer) })
    }

    /// The same, with how it was trained.
    pub fn with_report(self, report: PretrainReport) -> Self {
        Base { pretrained: Some(report), ..self }
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::load(&self.dir, &self.decoder.config)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// What a run made of it depends on.
    pub fn describe(&self) -> Result<serde_json::Value> {
        let mut tokenizer = Vec::new();
        for path in ["tokenizer.json", "tokenizer_config.json"].map(|name| self.dir.join(name)) {
            // The second names special tokens, where it is there.
            tokenizer.push(path.exists().then(|| FileHash::of(&path)).transpose()?.map(|hash| hash.sha256));
        }
        Ok(serde_json::json!({ "model": self.identity.hash(), "tokenizer": tokenizer }))
    }

    /// What item tokens of this decoder and the catalogue of `dataset` belong to.
    pub fn item_origin(&self, dataset: &Dataset) -> ItemTokenOrigin {
        ItemTokenOrigin { items_hash: dataset.items_hash(), decoder_hash: self.identity.hash() }
    }

    /// Step 1.
    pub fn items(
        &self,
        dataset: &Dataset,
        settings: &ItemTokenConfig,
        log: &mut MetricsLog,
        keep: &mut Checkpoints,
    ) -> Result<ItemTokens> {
        train_item_tokens(&self.decoder, self.tokenizer()?, &texts(dataset), settings, log, keep)
    }
}
