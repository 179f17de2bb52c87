//! Reading a labels folder whole.

use super::label_files::LabelBlock;
use super::label_manifest::{LabelManifest, MANIFEST, read_manifest};
use crate::data::Dataset;
use crate::files::FileHash;
use crate::{Error, Result};
use std::path::Path;

/// All labels of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSet {
    /// What they were made of and with.
    pub manifest: LabelManifest,
    /// First row of every user, and the number of rows at the end `[users + 1]`.
    pub offsets: Vec<usize>,
    /// The labels.
    pub labels: LabelBlock,
}

/// Reads the labels of `dataset` from `dir`.
///
/// # Errors
/// A folder whose labelling did not finish, labels of other data, and files that are missing, truncated, changed after
/// they were written or not what the manifest says.
pub fn read_labels(dir: &Path, dataset: &Dataset) -> Result<LabelSet> {
    let manifest = read_manifest(dir)?;
    check_data(dir, &manifest, dataset)?;
    let mut labels = LabelBlock::new(0..0);
    for file in &manifest.files {
        let path = dir.join(&file.file);
        let block = LabelBlock::read(&path, &manifest.header)?;
        let users = LabelManifest::users_of(file);
        let remedy = "label the data again, or restore the file";
        let wrong = |place: &str, problem| Err(Error::invalid(&path, place, problem, remedy));
        if block.users != users {
            return wrong("metadata first_user", format!("users {:?}, expected {users:?}", block.users));
        }
        if block.rows() != file.rows {
            return wrong("tensor user", format!("{} rows, expected {}", block.rows(), file.rows));
        }
        let found = FileHash::of(&path)?.sha256;
        if found != file.sha256 {
            return wrong("content", format!("its SHA-256 is {found}, the manifest names {}", file.sha256));
        }
        check_actions(&path, &block, dataset)?;
        labels.append(block);
    }
    let mut offsets = vec![0; dataset.users.len() + 1];
    labels.user.iter().for_each(|&user| offsets[user as usize + 1] += 1);
    (1..offsets.len()).for_each(|user| offsets[user] += offsets[user - 1]);
    Ok(LabelSet { manifest, offsets, labels })
}

/// Texts may differ: labels name users and items by number only.
fn check_data(dir: &Path, manifest: &LabelManifest, dataset: &Dataset) -> Result<()> {
    let header = &manifest.header;
    let found = [header.users, header.items];
    let expected = [dataset.users.len(), dataset.items.len()];
    if header.interactions_hash == dataset.interactions_hash() && found == expected {
        return Ok(());
    }
    let problem = format!(
        "the labels are of other data or other filters: {} users and {} items, where {} has {} and {}",
        found[0], found[1], dataset.name, expected[0], expected[1]
    );
    let remedy = "give the data and filters that were labelled, or label this data";
    Err(Error::invalid(dir.join(MANIFEST), "interactions_hash", problem, remedy))
}

/// The observed action of step t is the item of event t + 1.
fn check_actions(path: &Path, block: &LabelBlock, dataset: &Dataset) -> Result<()> {
    for ((&user, &t), &action) in block.user.iter().zip(&block.t).zip(&block.action) {
        let event = dataset.users[user as usize].events.get(t as usize + 1);
        if event.map(|event| event.item) != Some(action) {
            let found = event.map_or("no such step".into(), |event| format!("item {}", event.item));
            let problem = format!("step {t} of user {user} has item {action}, the data has {found}");
            return Err(Error::invalid(path, "tensor action", problem, "label the data again"));
        }
    }
    Ok(())
}
