//! `item_tokens.safetensors`: one tensor `item_tokens` `[items, d]`, and in the metadata what it belongs to.

use crate::device::{DType, Device};
use crate::tensor::Tensor;
use crate::tensor::file::{self, TensorFile};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file in an LE's folder.
pub const ITEM_TOKENS: &str = "item_tokens.safetensors";
const TENSOR: &str = "item_tokens";

/// What item tokens belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemTokenOrigin {
    /// [`Dataset::items_hash`](crate::data::Dataset::items_hash).
    pub items_hash: String,
    /// [`DecoderIdentity::hash`](crate::decoder::DecoderIdentity::hash).
    pub decoder_hash: String,
}

/// Writes `tokens` `[items, d]`, atomically.
///
/// # Errors
/// A token that is not a finite number.
pub fn write_item_tokens(path: &Path, tokens: &Tensor, origin: &ItemTokenOrigin) -> Result<()> {
    check_finite(path, TENSOR, tokens)?;
    let metadata = [("items_hash", &origin.items_hash), ("decoder_hash", &origin.decoder_hash)];
    let metadata = metadata.map(|(key, hash)| (key.to_string(), hash.clone()));
    file::write(path, &[(TENSOR.into(), tokens.clone())], &BTreeMap::from(metadata))
}

/// Reads the tokens `[items, d]` of the given `shape`.
///
/// # Errors
/// Tokens of another catalogue, other texts or another decoder, and a file that is damaged or holds something else.
pub fn read_item_tokens(
    path: &Path,
    shape: [usize; 2],
    origin: &ItemTokenOrigin,
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let file = TensorFile::open(path)?;
    let remedy = "make the tokens again for this data and decoder, or give those they were made for";
    for (key, expected, what) in [
        ("items_hash", &origin.items_hash, "another catalogue or other texts"),
        ("decoder_hash", &origin.decoder_hash, "another decoder"),
    ] {
        if file.metadata(key) != Some(expected) {
            let problem = format!("the item tokens were made for {what}");
            return Err(Error::invalid(path, format!("metadata {key}"), problem, remedy));
        }
    }
    if let Some(name) = file.names().into_iter().find(|name| name != TENSOR) {
        return Err(Error::invalid(
            path,
            format!("tensor {name}"),
            "item tokens have no such tensor",
            remedy,
        ));
    }
    let tokens = file.read(TENSOR, &shape, device, dtype)?;
    check_finite(path, TENSOR, &tokens)?;
    Ok(tokens)
}

/// A tensor with a NaN or an infinity makes every label one.
pub(super) fn check_finite(path: &Path, name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.to_f64_vec()?.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let problem = format!("element {at} of shape {:?} is not a finite number", tensor.shape());
            let remedy = "training diverged: lower the learning rate and train again";
            Err(Error::invalid(path, format!("tensor {name}"), problem, remedy))
        }
    }
}
