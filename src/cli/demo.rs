//! `lea demo`: the whole method on a built-in synthetic catalogue.

use super::config::RunConfig;
use super::pipeline::Pipeline;
use super::resume::ResumeArgs;
use crate::Result;
use crate::data::{SynthConfig, synthesise};
use crate::device::Device;
use clap::Args;
use std::path::{Path, PathBuf};

/// The settings of the demonstration, a file like any other: its name and text.
const SETTINGS: (&str, &str) = ("configs/demo.toml", include_str!("../../configs/demo.toml"));
/// Those of the quick one.
const QUICK: (&str, &str) = ("configs/demo-quick.toml", include_str!("../../configs/demo-quick.toml"));

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
    /// A tiny catalogue and decoder: in seconds it shows that everything runs here, not what the method gains
    #[arg(long)]
    pub quick: bool,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea demo`.
pub fn run(args: DemoCommand) -> Result<()> {
    let (name, text) = if args.quick { QUICK } else { SETTINGS };
    let mut config = RunConfig::parse(text, Path::new(name))?;
    config.seed = args.seed;
    config.plan.seeds = vec![args.seed];
    let sizes = match args.quick {
        true => SynthConfig { items: 60, users: 100, mean_length: 7.0, seed: args.seed },
        false => SynthConfig { seed: args.seed, ..SynthConfig::default() },
    };
    let loaded = synthesise(&sizes)?;
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
