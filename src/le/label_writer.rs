//! Writing a labels folder: its files in any order, the manifest last.

use super::label_files::{LabelBlock, open};
use super::label_manifest::{
    FORMAT, LabelFile, LabelHeader, LabelManifest, MANIFEST, RewardStatistics, file_name,
};
use crate::device::{DType, Device};
use crate::files::{self, FileHash};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Writes the labels of one labelling.
#[derive(Debug)]
pub struct LabelWriter {
    dir: PathBuf,
    header: LabelHeader,
}

impl LabelWriter {
    /// A writer into `dir`, which must be new or empty; with `overwrite` an earlier labelling's files are removed.
    pub fn new(dir: &Path, header: LabelHeader, overwrite: bool) -> Result<Self> {
        if overwrite && dir.is_dir() {
            remove_earlier(dir).map_err(|e| Error::io(dir, e))?;
        } else {
            files::new_folder(dir)?;
        }
        Ok(LabelWriter { dir: dir.to_path_buf(), header })
    }

    /// Writes file `index` of `total`, atomically.
    ///
    /// # Errors
    /// Labels that are no numbers, not in order or not in the catalogue: nothing is written.
    pub fn write_block(&self, index: usize, total: usize, block: &LabelBlock) -> Result<()> {
        block.write(&self.dir.join(file_name(index, total)), &self.header)
    }

    /// Reads the `total` files back and writes the manifest that vouches for them. `trains` tells whether step t of a
    /// user is a training step, whose rewards enter the statistics; `quality` is that of the LE on held-out users.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another labelling, and users that are in no file or in two.
    pub fn finish(
        &self,
        total: usize,
        trains: impl Fn(u32, u32) -> bool,
        quality: serde_json::Value,
    ) -> Result<LabelManifest> {
        let mut rewards = Moments::default();
        let mut written = Vec::with_capacity(total);
        let mut next = 0;
        for index in 0..total {
            let path = self.dir.join(file_name(index, total));
            let (file, users, rows) = open(&path, &self.header)?;
            if users.start != next || users.is_empty() {
                let problem = format!("users {users:?}, expected them from {next} on");
                return Err(Error::invalid(&path, "metadata first_user", problem, "label the data again"));
            }
            next = users.end;
            let (user, t) = (file.read_ids("user", &[rows])?, file.read_ids("t", &[rows])?);
            let reward = file.read("reward", &[rows], &Device::Cpu, DType::F32)?;
            let steps = user.into_iter().zip(t).zip(reward.to_vec::<f32>()?);
            steps.filter(|((user, t), _)| trains(*user, *t)).for_each(|(_, reward)| rewards.add(reward));
            let FileHash { file, sha256, .. } = FileHash::of(&path)?;
            written.push(LabelFile { file, rows, first_user: users.start, last_user: users.end - 1, sha256 });
        }
        if next as usize != self.header.users {
            let problem = format!("{total} label files hold {next} of {} users", self.header.users);
            return Err(Error::setting(problem, "label all users before finishing"));
        }
        let manifest = LabelManifest {
            format: FORMAT.into(),
            header: self.header.clone(),
            steps: written.iter().map(|file| file.rows).sum(),
            rewards: rewards.statistics(),
            quality,
            files: written,
        };
        files::write_atomic(&self.dir.join(MANIFEST), |out| {
            serde_json::to_writer_pretty(&mut *out, &manifest)?;
            out.write_all(b"\n")
        })?;
        Ok(manifest)
    }
}

/// Removes the manifest first, so that it never vouches for files that are going, then files whole and half.
fn remove_earlier(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(dir.join(MANIFEST)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with("labels-") && (name.ends_with(".safetensors") || name.ends_with(".tmp"));
        if ours {
            std::fs::remove_file(entry.path())?;
        }
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
