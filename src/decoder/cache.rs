//! Keys and values that stay resident between passes.

use super::DecoderConfig;
use crate::Result;
use crate::device::{DType, Device};
use crate::tensor::Tensor;

/// Keys, rotated, and values of the rows that earlier passes ran: `[rows, kv_heads·head_dim]` a layer.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(super) layers: Vec<(Tensor, Tensor)>,
}

/// What a pass does with resident keys and values. Its attention index runs over resident rows, then its own.
pub enum Resident<'a> {
    /// There are none.
    None,
    /// Rows see those of the cache, which stays as it is: leaves that stream against their trunks.
    Read(&'a KvCache),
    /// Rows see those of the cache, and theirs are put after them: generation, or the trunks of a pack.
    Extend(&'a mut KvCache),
}

impl KvCache {
    /// A cache without rows for a decoder of this configuration.
    pub fn new(config: &DecoderConfig, device: &Device, dtype: DType) -> Result<Self> {
        let empty = || Tensor::zeros(device, dtype, &[0, config.key_width()]);
        let layers =
            (0..config.num_hidden_layers).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?;
        Ok(KvCache { layers })
    }

    /// Number of resident rows.
    pub fn rows(&self) -> usize {
        self.layers.first().map_or(0, |(keys, _)| keys.shape()[0])
    }
}

impl Resident<'_> {
    pub(super) fn cache(&self) -> Option<&KvCache> {
        match self {
            Resident::None => None,
            Resident::Read(cache) => Some(cache),
            Resident::Extend(cache) => Some(cache),
        }
    }
}
