//! Finishing a labels folder: what its files' records say is checked, and the manifest that vouches for all is written.

use super::label_files::open;
use super::label_manifest::{
    FORMAT, LabelFile, LabelHeader, LabelManifest, MANIFEST, RewardStatistics, file_stem,
};
use super::label_record::FileRecord;
use super::label_writer::entries;
use crate::data::{Part, Split};
use crate::device::{DType, Device};
use crate::{Error, Result, files};
use std::path::Path;

/// Name of the split beside the labels.
pub const SPLIT: &str = "split.json";

/// Writes the manifest of the label files in `dir`, whichever runs wrote them: the same files give the same manifest.
///
/// # Errors
/// Files that are missing, unfinished, changed, or of different labellings; users that are in no file or in two.
pub fn merge(dir: &Path) -> Result<LabelManifest> {
    let records = read_records(dir)?;
    let header = records[0].header.clone();
    let split = read_split(dir, &header)?;
    let mut rewards = Moments::default();
    let mut next = 0;
    for (index, record) in records.iter().enumerate() {
        record.check(dir, index, records.len())?;
        let file = &record.file;
        if file.first_user != next {
            let problem = format!("users from {} on, expected them from {next} on", file.first_user);
            return Err(Error::invalid(dir.join(&file.file), "first_user", problem, "label the data again"));
        }
        next = LabelManifest::users_of(file).end;
        add_rewards(dir, file, &header, &split, &mut rewards)?;
    }
    let manifest = LabelManifest {
        format: FORMAT.into(),
        steps: records.iter().map(|record| record.file.rows).sum(),
        rewards: rewards.statistics(),
        quality: records[0].quality.clone(),
        files: records.into_iter().map(|record| record.file).collect(),
        header,
    };
    manifest.check_files().map_err(|problem| {
        Error::setting(format!("the label files of {}: {problem}", dir.display()), "label the data again")
    })?;
    files::write_atomic(&dir.join(MANIFEST), |out| {
        serde_json::to_writer_pretty(&mut *out, &manifest)?;
        out.write_all(b"\n")
    })?;
    Ok(manifest)
}

/// The split beside the labels of `header`; an error where it is another.
pub(super) fn read_split(dir: &Path, header: &LabelHeader) -> Result<Split> {
    let split = Split::read(&dir.join(SPLIT), &header.interactions_hash, header.users)?;
    if split.hash() != header.split_hash {
        let problem = "the split is not the one that the labels were made with";
        return Err(Error::invalid(dir.join(SPLIT), "hash", problem, "copy it from the folder of the LE"));
    }
    Ok(split)
}

/// The records of all files of the folder, in order; none is missing and all are of one labelling.
fn read_records(dir: &Path) -> Result<Vec<FileRecord>> {
    let found = entries(dir)?;
    let Some(first) = found.first() else {
        let problem = format!("{} holds no label files", dir.display());
        return Err(Error::setting(problem, "name the folder that lea label wrote"));
    };
    let total = first.total;
    if let Some(other) = found.iter().find(|entry| entry.total != total) {
        let problem = format!("it is one of {} files, {} is one of {total}", other.total, first.name);
        let remedy = "remove the files that do not belong here";
        return Err(Error::invalid(dir.join(&other.name), "name", problem, remedy));
    }
    let there = |index: usize, ending: &str| found.iter().any(|e| e.index == index && e.ending == ending);
    let missing: Vec<usize> =
        (0..total).filter(|&i| !(there(i, ".json") && there(i, ".safetensors"))).collect();
    if let Some(&index) = missing.first() {
        let begun = there(index, ".part") || there(index, ".safetensors");
        let state = if begun { "not finished" } else { "missing" };
        let problem = format!(
            "{} of the {total} label files of {} are not there: {} is {state}",
            missing.len(),
            dir.display(),
            file_stem(index, total)
        );
        let remedy = "run the missing shards of lea label, with --resume where they were begun, then merge";
        return Err(Error::setting(problem, remedy));
    }
    let mut records: Vec<FileRecord> = Vec::with_capacity(total);
    for index in 0..total {
        let path = dir.join(format!("{}.json", file_stem(index, total)));
        let record = FileRecord::read(&path)?;
        if let Some(first) = records.first() {
            record.expect(&path, &first.header)?;
        }
        records.push(record);
    }
    Ok(records)
}

/// Adds the rewards of the observed actions of all training steps.
fn add_rewards(
    dir: &Path,
    file: &LabelFile,
    header: &LabelHeader,
    split: &Split,
    rewards: &mut Moments,
) -> Result<()> {
    let path = dir.join(&file.file);
    let (tensors, users, rows) = open(&path, header)?;
    if users != LabelManifest::users_of(file) || rows != file.rows {
        let problem = format!(
            "{rows} rows of the users {users:?}, its record says {} of {} to {}",
            file.rows, file.first_user, file.last_user
        );
        return Err(Error::invalid(&path, "metadata first_user", problem, "label the data again"));
    }
    let user = tensors.read_ids("user", &[rows])?;
    let reward = tensors.read("reward", &[rows], &Device::Cpu, DType::F32)?.to_vec::<f32>()?;
    let mut row = 0;
    for of_user in user.chunk_by(|a, b| a == b) {
        let user = of_user[0];
        if user as usize >= header.users {
            let problem = format!("user {user} of {}", header.users);
            return Err(Error::invalid(&path, "tensor user", problem, "label the data again"));
        }
        // All steps of a user are labelled, so that they tell the number of events.
        for step in split.steps(Part::Train, user as usize, of_user.len() + 1) {
            rewards.add(reward[row + step]);
        }
        row += of_user.len();
    }
    Ok(())
}

/// Mean and deviation in one pass (Welford, Technometrics 1962). Added in the order of the users, the steps give the
/// same bits however they were cut into files.
#[derive(Default)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, reward: f32) {
        let reward = f64::from(reward);
        self.count += 1;
        let off = reward - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (reward - self.mean);
    }

    fn statistics(&self) -> RewardStatistics {
        let deviation = (self.squares / self.count.max(1) as f64).sqrt();
        RewardStatistics { steps: self.count, mean: self.mean, deviation }
    }
}
