//! A trained recommender as one `.safetensors` file, its configuration in the metadata.

use super::config::RecConfig;
use super::init::Init;
use super::network::Network;
use crate::device::{DType, Device};
use crate::tensor::file::{self, TensorFile};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = "lea-recommender-1";
const KEY: &str = "recommender";

/// The metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    /// Hash of the interactions it was trained on.
    data: String,
    items: usize,
    state_dim: usize,
    config: RecConfig,
}

/// Writes `network`, trained on interactions of hash `data`, atomically.
pub fn save(path: &Path, network: &Network, data: &str) -> Result<()> {
    let header = Header {
        format: FORMAT.into(),
        data: data.into(),
        items: network.items(),
        state_dim: network.state_dim(),
        config: network.config().clone(),
    };
    let header = serde_json::to_string(&header)
        .map_err(|e| Error::setting(format!("the configuration cannot be stored: {e}"), "report this"))?;
    let tensors: Vec<_> = network.params().iter().map(|p| (p.name().to_string(), p.value())).collect();
    file::write(path, &tensors, &BTreeMap::from([(KEY.to_string(), header)]))
}

/// Reads a recommender, and the hash of the interactions it was trained on.
///
/// # Errors
/// A file that is damaged or no recommender, settings that make no sense, and tensors that are missing, left over or
/// of another shape than the settings say.
pub fn load(path: &Path, device: &Device) -> Result<(Network, String)> {
    let tensors = TensorFile::open(path)?;
    let wrong = |problem: String| {
        Error::invalid(path, format!("metadata {KEY}"), problem, "give a file that `lea train` wrote")
    };
    let header =
        tensors.metadata(KEY).ok_or_else(|| wrong("it is missing: this is no recommender".into()))?;
    let header: Header = serde_json::from_str(header).map_err(|e| wrong(e.to_string()))?;
    if header.format != FORMAT {
        return Err(wrong(format!("format {:?}, expected {FORMAT:?}", header.format)));
    }
    let mut init = Init::stored((device, DType::F32), &tensors);
    let network = Network::build(&header.config, header.items, header.state_dim, &mut init)?;
    let params = network.params();
    if let Some(name) = tensors.names().into_iter().find(|name| params.iter().all(|p| p.name() != name)) {
        let problem = "the recommender has no such tensor";
        return Err(Error::invalid(
            path,
            format!("tensor {name}"),
            problem,
            "give a file that `lea train` wrote",
        ));
    }
    Ok((network, header.data))
}
