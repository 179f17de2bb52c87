//! Labelling some users again and comparing bits with the files.

use super::config::LeConfig;
use super::environment::Environment;
use super::label::Labeller;
use super::label_files::{Column, LabelBlock, columns, open};
use super::label_manifest::{LabelFile, LabelManifest, read_manifest};
use super::label_merge::read_split;
use super::pass::LeData;
use super::work::Work;
use crate::device::DType;
use crate::files::FileHash;
use crate::progress::Progress;
use crate::tensor::file::TensorFile;
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What was labelled again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Users.
    pub users: usize,
    /// Their steps.
    pub steps: usize,
}

/// Labels `users` users, drawn by `seed`, again with what the labels in `dir` were made with, and compares every bit.
/// Before that, every file of the folder and its split are compared with what the manifest says of them.
///
/// # Errors
/// No users to label, a folder without a manifest, a file that is gone or was changed, and the first value that is not the
/// same.
pub fn verify(
    dir: &Path,
    env: &Environment,
    data: LeData,
    config: &LeConfig,
    (users, seed): (usize, u64),
) -> Result<Sample> {
    if users == 0 {
        return Err(Error::setting("no users to label again", "give at least one with --users"));
    }
    let manifest = read_manifest(dir)?;
    read_split(dir, &manifest.header)?;
    for file in &manifest.files {
        check_content(dir, file)?;
    }
    let met = |user: u32| data.met(user);
    let labeller = data.labeller(env, config, manifest.header.seed, &met)?;
    let drawn = draw(manifest.header.users.min(data.users.count()), users, seed);
    let mut progress = Progress::new("verify", drawn.len() as u64, "users");
    let mut sample = Sample::default();
    for file in &manifest.files {
        let held = LabelManifest::users_of(file);
        let own =
            drawn.partition_point(|&user| user < held.start)..drawn.partition_point(|&user| user < held.end);
        if own.is_empty() {
            continue;
        }
        let stored = Stored::open(dir.join(&file.file), &manifest)?;
        for &user in &drawn[own] {
            sample.steps += stored.verify_user(&labeller, data, user)?;
            sample.users += 1;
            progress.advance(1);
        }
    }
    progress.finish();
    Ok(sample)
}

/// An error unless `file` has the content that the manifest names.
fn check_content(dir: &Path, file: &LabelFile) -> Result<()> {
    let path = dir.join(&file.file);
    let found = FileHash::of(&path)?;
    if found.sha256 == file.sha256 {
        return Ok(());
    }
    let problem = format!("its SHA-256 is {}, the manifest names {}", found.sha256, file.sha256);
    Err(Error::invalid(path, "content", problem, "label its shard again with --overwrite"))
}

/// `count` of `users` users, ascending.
fn draw(users: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn: Vec<u32> =
        index::sample(&mut rng, users, count.min(users)).into_iter().map(|user| user as u32).collect();
    drawn.sort_unstable();
    drawn
}

/// A label file that is compared with.
struct Stored {
    path: PathBuf,
    tensors: TensorFile,
    columns: Vec<Column>,
    user: Vec<u32>,
}

impl Stored {
    fn open(path: PathBuf, manifest: &LabelManifest) -> Result<Self> {
        let (tensors, _, rows) = open(&path, &manifest.header)?;
        let user = tensors.read_ids("user", &[rows])?;
        Ok(Stored { path, tensors, columns: columns(&manifest.header), user })
    }

    /// Labels `user` again; the number of its steps.
    fn verify_user(&self, labeller: &Labeller, data: LeData, user: u32) -> Result<usize> {
        let first = self.user.partition_point(|&u| u < user);
        let rows = first..self.user.partition_point(|&u| u <= user);
        let steps = data.users.events(user)?.len().saturating_sub(1);
        if rows.len() != steps {
            let problem = format!("user {user} has {} rows, expected {steps}", rows.len());
            return Err(Error::invalid(&self.path, "tensor user", problem, "label the data again"));
        }
        let mut row = rows.start;
        let works = data.works(user, labeller.history())?.into_iter();
        let ahead = |work: &Work| data.before(work);
        labeller.label_all(works, &ahead, &mut |_| Ok(()), &mut |block| {
            self.compare(block, row..row + block.rows())?;
            row += block.rows();
            Ok(())
        })?;
        Ok(steps)
    }

    fn compare(&self, block: &LabelBlock, rows: Range<usize>) -> Result<()> {
        for column in &self.columns {
            let bytes = self.tensors.read_bytes(column.name, &column.shape(self.user.len()), column.dtype)?;
            let width = 4 * column.width;
            let (stored, again) = (&bytes[rows.start * width..rows.end * width], block.bytes_of(column.name));
            let pairs = stored.as_chunks::<4>().0.iter().zip(again.as_chunks::<4>().0);
            if let Some((at, (stored, again))) =
                pairs.enumerate().find(|(_, (stored, again))| stored != again)
            {
                let row = at / column.width;
                let shown = |bytes: [u8; 4]| match column.dtype {
                    DType::U32 => u32::from_le_bytes(bytes).to_string(),
                    _ => f32::from_le_bytes(bytes).to_string(),
                };
                let problem = format!(
                    "row {} (user {}, step {}) holds {}, labelled again it is {}",
                    rows.start + row,
                    block.user[row],
                    block.t[row],
                    shown(*stored),
                    shown(*again)
                );
                let remedy = "bits are the same only on the same device and instruction set with the same version of \
                              lea; if these are, the file was not written by this labelling: label its shard again with --overwrite";
                return Err(Error::invalid(&self.path, format!("tensor {}", column.name), problem, remedy));
            }
        }
        Ok(())
    }
}
