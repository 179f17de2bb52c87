//! `lea labels merge|verify`: what is done with label files once they are written.

use super::config::RunConfig;
use super::data::DataArgs;
use super::output;
use super::pipeline::base::OpenBase;
use super::pipeline::environment::LeJob;
use crate::data::Split;
use crate::device::Device;
use crate::le::{LeData, SPLIT, merge, peft, read_manifest, verify};
use crate::run_folder::FolderLock;
use crate::{Error, Result};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// `lea labels`.
#[derive(Debug, Args)]
pub struct LabelsCommand {
    /// What to do with the labels.
    #[command(subcommand)]
    pub action: LabelsAction,
}

/// The subcommands of `lea labels`.
#[derive(Debug, Subcommand)]
pub enum LabelsAction {
    /// Check the files that all shards of a labelling wrote into one folder, and write the manifest that they lack
    Merge {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Label some users again and compare every bit with the files
    Verify(Box<VerifyArgs>),
}

/// `lea labels verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The folder of the labels
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The data that was labelled
    #[command(flatten)]
    pub data: DataArgs,
    /// Settings of the labelling, for its section data
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The decoder
    #[arg(long, value_name = "DIR")]
    pub decoder: PathBuf,
    /// The LE
    #[arg(long, value_name = "DIR")]
    pub le: PathBuf,
    /// Users to label again
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub users: usize,
    /// Seed of their choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Device to compute on, see lea label: bits are the same only on the one that labelled
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea labels`.
pub fn run(args: LabelsCommand) -> Result<()> {
    match args.action {
        LabelsAction::Merge { dir } => run_merge(&dir),
        LabelsAction::Verify(args) => run_verify(&args),
    }
}

fn run_merge(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        return Err(Error::setting(
            format!("{} is no folder", dir.display()),
            "name the folder of the shards",
        ));
    }
    // Shards that are still being labelled hold it too: their files are not to be vouched for.
    let _lock = FolderLock::take(dir)?;
    let manifest = merge(dir)?;
    output::line(format_args!(
        "{} files, {} users, {} steps: {} is complete",
        manifest.files.len(),
        manifest.header.users,
        manifest.steps,
        dir.display()
    ))
}

fn run_verify(args: &VerifyArgs) -> Result<()> {
    let manifest = read_manifest(&args.dir)?;
    let config = args.config.as_deref().map(RunConfig::load).transpose()?.unwrap_or_default();
    let opened = OpenBase::new(&args.decoder)?;
    let read = args.data.load(config.data)?;
    let dataset = &read.dataset;
    let base = opened.load_for_labels(&args.device)?;
    let loaded = peft::load_on(&args.le, &base.decoder, &base.identity)?;
    loaded.record.check_items(dataset)?;
    let split = Split::load(&args.le.join(SPLIT), dataset)?;
    let mut settings = loaded.record.settings.clone();
    settings.label = manifest.header.settings.clone();
    let data = LeData::new(dataset, &split);
    let job =
        LeJob { base: &base, data, data_hash: read.hash(), settings: &settings, seed: manifest.header.seed };
    if let Some(difference) = manifest.header.difference(&job.label_header(&loaded.env, &loaded.hash)?) {
        let problem =
            format!("the labels in {} were made with other things: {difference}", args.dir.display());
        return Err(Error::setting(
            problem,
            "give the data, filters, LE and decoder that they were made with",
        ));
    }
    let sample = verify(&args.dir, &loaded.env, data, &settings, (args.users, args.seed))?;
    let files = manifest.files.len();
    output::line(format_args!(
        "{files} files and the split are as the manifest says; {} users labelled again: all labels of their {} steps have the same bits",
        sample.users, sample.steps
    ))
}
