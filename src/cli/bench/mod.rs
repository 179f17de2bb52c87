//! `lea bench`: the speed of one stage beside the machine's own limit.

mod catalogue;
mod ceiling;
mod label;

use crate::Result;
use clap::{Args, Subcommand};

/// `lea bench`.
#[derive(Debug, Args)]
pub struct BenchCommand {
    /// The stage.
    #[command(subcommand)]
    pub stage: BenchStage,
}

/// The stages that can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchStage {
    /// The labelling pass: rewards of given actions at every step, random weights
    Label(label::LabelBench),
    /// The labelling pass with the whole catalogue as candidates of a long history: memory and time, random weights
    Catalogue(catalogue::CatalogueBench),
}

/// Runs `lea bench`.
pub fn run(args: BenchCommand) -> Result<()> {
    match args.stage {
        BenchStage::Label(bench) => label::run(&bench),
        BenchStage::Catalogue(bench) => catalogue::run(&bench),
    }
}
