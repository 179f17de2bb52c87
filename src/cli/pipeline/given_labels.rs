//! Labels that were made before, with the split that their LE was trained on.

use crate::cli::config::SplitConfig;
use crate::data::{Dataset, Split};
use crate::files::FileHash;
use crate::le::{LabelSet, read_labels};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A labels folder, read whole.
pub struct GivenLabels {
    /// The labels.
    pub set: LabelSet,
    /// Their split.
    pub split: Split,
    dir: PathBuf,
}

impl GivenLabels {
    /// Reads the folder that `lea label` wrote. `other` is a split that is asked for instead of the one beside them.
    ///
    /// # Errors
    /// Labels of other data, damaged ones, and a split that their LE was not trained on: it may have learned from
    /// the test users of that one.
    pub fn load(dir: &Path, dataset: &Dataset, other: Option<Split>) -> Result<Self> {
        let set = read_labels(dir, dataset)?;
        let split = match other {
            Some(split) => split,
            None => Split::load(&dir.join("split.json"), dataset)?,
        };
        if set.manifest.header.split_hash != split.hash() {
            return Err(Error::invalid(
                dir.join("manifest.json"),
                "header.split_hash",
                "the labels' LE was trained on another split: it may have learned from test users of this one",
                "give no split, which takes the labels' own, or make labels on this split with `lea label`",
            ));
        }
        Ok(GivenLabels { set, split, dir: dir.to_path_buf() })
    }

    /// The split as the labels have it.
    ///
    /// # Errors
    /// A configuration that asks for another one.
    pub fn agree_with(&self, asked: &SplitConfig) -> Result<SplitConfig> {
        let own = SplitConfig {
            protocol: self.split.protocol,
            seed: self.split.seed,
            le_share: self.split.le.share,
        };
        if (own.protocol, own.seed) == (asked.protocol, asked.seed) {
            return Ok(own);
        }
        let name = |split: &SplitConfig| format!("{:?}, seed {}", split.protocol, split.seed);
        Err(Error::setting(
            format!("[split] says {}, the labels were made on {}", name(asked), name(&own)),
            "write the labels' split into the configuration, or make labels on its split with `lea label`",
        ))
    }

    /// Where they lie.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// What a run record says of them.
    pub fn describe(&self) -> Result<Value> {
        let header = &self.set.manifest.header;
        Ok(json!({
            "folder": self.dir,
            "manifest": FileHash::of(&self.dir.join("manifest.json"))?.sha256,
            "le": header.le_hash,
            "decoder": header.decoder_hash,
            "seed": header.seed,
            "settings": header.settings,
        }))
    }
}
