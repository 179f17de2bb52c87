//! `manifest.json` of a labels folder: what was labelled, with what, and which files hold it.

use super::config::LabelConfig;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// Format of the manifest and of the files it names.
pub(super) const FORMAT: &str = "lea-labels-1";
/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";

/// What is known before the first user is labelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelHeader {
    /// Users of the data set; each is in exactly one file.
    pub users: usize,
    /// Items of the catalogue.
    pub items: usize,
    /// Width d of a state.
    pub state_dim: usize,
    /// Sampled negatives a step, K.
    pub negatives: usize,
    /// Whether every step has an augmented action.
    pub augmented: bool,
    /// Whether the state after taking it was kept.
    pub augmented_states: bool,
    /// Settings of the labelling pass.
    pub settings: LabelConfig,
    /// Seed of the negatives.
    pub seed: u64,
    /// [`Dataset::hash`](crate::data::Dataset::hash).
    pub data_hash: String,
    /// [`Dataset::interactions_hash`](crate::data::Dataset::interactions_hash).
    pub interactions_hash: String,
    /// Hex SHA-256 of the LE's `le.json`.
    pub le_hash: String,
    /// Hash of the identity of the LE's decoder.
    pub decoder_hash: String,
    /// Device, instruction set and version of `lea`, on which the bits of a label depend.
    pub made_by: String,
    /// [`Split::hash`](crate::data::Split::hash) of the split whose training steps the reward statistics cover.
    pub split_hash: String,
}

impl LabelHeader {
    /// Hex SHA-256 of all that decides the labels: each file carries it. Sizes of packs and files decide nothing.
    pub(super) fn identity(&self) -> String {
        files::sha256(&serde_json::to_vec(&self.deciding()).expect("numbers and strings serialise"))
    }

    /// What decides labels and is not here as it is in `expected`, by name: `None` where the labels are of one labelling.
    pub fn difference(&self, expected: &LabelHeader) -> Option<String> {
        let value = |header: &LabelHeader| {
            serde_json::to_value(header.deciding()).expect("numbers and strings serialise")
        };
        let mut differences = Vec::new();
        compare("", &value(self), &value(expected), &mut differences);
        (!differences.is_empty()).then(|| differences.join(", "))
    }

    /// The header without what decides no label.
    pub fn deciding(&self) -> LabelHeader {
        LabelHeader { settings: self.settings.deciding(), ..self.clone() }
    }
}

fn compare(
    name: &str,
    found: &serde_json::Value,
    expected: &serde_json::Value,
    differences: &mut Vec<String>,
) {
    if let (Some(found), Some(expected)) = (found.as_object(), expected.as_object()) {
        let dot = if name.is_empty() { "" } else { "." };
        for (key, value) in expected {
            let name = format!("{name}{dot}{key}");
            compare(&name, found.get(key).unwrap_or(&serde_json::Value::Null), value, differences);
        }
    } else if found != expected {
        differences.push(format!("{name} is {found}, expected {expected}"));
    }
}

/// Rewards of the observed actions of all training steps, summed in the order of the users in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardStatistics {
    /// Training steps.
    pub steps: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n); 0 where all are equal.
    pub deviation: f64,
}

/// One file of labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelFile {
    /// Its name.
    pub file: String,
    /// Labelled steps.
    pub rows: usize,
    /// First user.
    pub first_user: u32,
    /// Last user, inclusive.
    pub last_user: u32,
    /// Hex SHA-256 of the file.
    pub sha256: String,
}

/// The manifest. It is written last: a folder without it is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelManifest {
    pub(super) format: String,
    /// What was labelled and how.
    pub header: LabelHeader,
    /// Labelled steps of all files.
    pub steps: usize,
    /// What standardised rewards are scaled by.
    pub rewards: RewardStatistics,
    /// Quality on held-out users.
    pub quality: serde_json::Value,
    /// The files, in the order of their users.
    pub files: Vec<LabelFile>,
}

/// Name of file `index` of `total`.
pub(super) fn file_name(index: usize, total: usize) -> String {
    format!("{}.safetensors", file_stem(index, total))
}

/// That name without its ending: record and unfinished part of the file have it too.
pub(super) fn file_stem(index: usize, total: usize) -> String {
    format!("labels-{index:05}-of-{total:05}")
}

/// Reads `dir/manifest.json` and checks it in itself; the files it names are not opened.
///
/// # Errors
/// A folder without a manifest, whose labelling did not finish; a manifest that is broken or contradicts itself.
pub fn read_manifest(dir: &Path) -> Result<LabelManifest> {
    let path = dir.join(MANIFEST);
    if !path.is_file() {
        let problem = format!("{} holds no {MANIFEST}: its labelling did not finish", dir.display());
        let remedy = "run lea label again with --resume, or lea labels merge where it was done in shards, or name a \
                      folder that is finished";
        return Err(Error::setting(problem, remedy));
    }
    let broken =
        |place: String, problem: String| Error::invalid(&path, place, problem, "label the data again");
    let manifest: LabelManifest = serde_json::from_str(&files::read_text(&path)?)
        .map_err(|e| broken(format!("line {}", e.line()), e.to_string()))?;
    if manifest.format != FORMAT {
        return Err(broken("format".into(), format!("{:?} where {FORMAT:?} is expected", manifest.format)));
    }
    manifest.check_files().map_err(|problem| broken("files".into(), problem))?;
    Ok(manifest)
}

impl LabelManifest {
    /// Users of a file.
    pub(super) fn users_of(file: &LabelFile) -> Range<u32> {
        file.first_user..file.last_user.saturating_add(1)
    }

    /// The files must be named by their number and hold every user once and every step.
    pub(super) fn check_files(&self) -> Result<(), String> {
        let mut next = 0;
        for (index, file) in self.files.iter().enumerate() {
            let name = file_name(index, self.files.len());
            if file.file != name {
                return Err(format!("file {index} is named {:?}, expected {name:?}", file.file));
            }
            if file.first_user != next || file.last_user < next {
                let (first, last) = (file.first_user, file.last_user);
                return Err(format!("{name} holds users {first} to {last}, expected them from {next} on"));
            }
            next = Self::users_of(file).end;
        }
        if next as usize != self.header.users {
            return Err(format!("they hold {next} users, the header names {}", self.header.users));
        }
        let rows: u128 = self.files.iter().map(|file| file.rows as u128).sum();
        if rows != self.steps as u128 {
            return Err(format!("they hold {rows} rows, the manifest names {} steps", self.steps));
        }
        Ok(())
    }
}
