//! `lea demo`: the whole method on a built-in synthetic catalogue.

use super::config::RunConfig;
use super::pipeline::Pipeline;
use super::resume::ResumeArgs;
use crate::Result;
use crate::data::{SynthConfig, synthesise};
use crate::device::Device;
use clap::Args;
use std::path::{Path, PathBuf};

/// The settings of the demonstration, a file like any other.
const SETTINGS: &str = include_str!("../../configs/demo.toml");

/// `lea demo`.
#[derive(Debug, Args)]
pub struct DemoCommand {
    /// Folder to write
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    pub out: PathBuf,
    /// Replace the files of an earlier run in that folder
    #[arg(long)]
    pub overwrite: bool,
    /// Going on after an interruption
    #[command(flatten)]
    pub resume: ResumeArgs,
    /// Seed of the catalogue, the LE and the recommenders
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Device to compute on
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea demo`.
pub fn run(args: DemoCommand) -> Result<()> {
    let mut config = RunConfig::parse(SETTINGS, Path::new("configs/demo.toml"))?;
    config.seed = args.seed;
    config.plan.seeds = vec![args.seed];
    let loaded = synthesise(&SynthConfig { seed: args.seed, ..SynthConfig::default() })?;
    let pipeline = Pipeline {
        config: &config,
        loaded: &loaded,
        decoder: None,
        labels: None,
        device: args.device,
        out: &args.out,
        overwrite: args.overwrite,
        resume: &args.resume,
        command: "demo",
        source: None,
        title: "lea on a synthetic catalogue",
    };
    pipeline.run()
}
