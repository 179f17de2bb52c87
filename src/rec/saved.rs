//! A trained recommender as one `.safetensors` file, its configuration in the metadata.

use super::config::RecConfig;
use super::init::Init;
use super::network::Network;
use crate::data::{Dataset, Split};
use crate::device::{DType, Device};
use crate::tensor::file::{self, TensorFile};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = "lea-recommender-1";
const KEY: &str = "recommender";

/// What a recommender was trained on. Ranked on another split, it would be asked about users that it learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// [`Dataset::interactions_hash`].
    pub data: String,
    /// [`Split::hash`].
    pub split: String,
}

impl TrainedOn {
    /// The training part of `split`.
    pub fn of(data: &Dataset, split: &Split) -> Self {
        TrainedOn { data: data.interactions_hash(), split: split.hash() }
    }

    /// Refuses data or a split that the recommender in file `path` was not trained on.
    ///
    /// # Errors
    /// One that names the file and what to give instead.
    pub fn check(&self, path: &Path, data: &Dataset, split: &Split) -> Result<()> {
        let given = TrainedOn::of(data, split);
        if self.data != given.data {
            let problem = "the recommender was trained on other data, or with other filters";
            let remedy = "give the data and the filters that it was trained with";
            return Err(Error::invalid(path, "metadata", problem, remedy));
        }
        if self.split != given.split {
            let problem =
                "the recommender was trained on another split: it may have learned from test users of this";
            let remedy = "give the split.json that its training wrote with --split";
            return Err(Error::invalid(path, "metadata", problem, remedy));
        }
        Ok(())
    }
}

/// The metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    #[serde(flatten)]
    trained_on: TrainedOn,
    items: usize,
    state_dim: usize,
    config: RecConfig,
}

/// Writes `network`, trained on `trained_on`, atomically.
pub fn save(path: &Path, network: &Network, trained_on: &TrainedOn) -> Result<()> {
    let header = Header {
        format: FORMAT.into(),
        trained_on: trained_on.clone(),
        items: network.items(),
        state_dim: network.state_dim(),
        config: network.config().clone(),
    };
    let header = serde_json::to_string(&header)
        .map_err(|e| Error::setting(format!("the configuration cannot be stored: {e}"), "report this"))?;
    let tensors: Vec<_> = network.params().iter().map(|p| (p.name().to_string(), p.value())).collect();
    file::write(path, &tensors, &BTreeMap::from([(KEY.to_string(), header)]))
}

/// Reads a recommender, and what it was trained on.
///
/// # Errors
/// A file that is damaged or no recommender, settings that make no sense, and tensors that are missing, left over or
/// of another shape than the settings say.
pub fn load(path: &Path, device: &Device) -> Result<(Network, TrainedOn)> {
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
    Ok((network, header.trained_on))
}
