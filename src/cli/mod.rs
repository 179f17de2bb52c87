//! The command line, one file a subcommand.

pub mod bench;
pub mod data;
pub mod eval;
pub mod generate;
mod output;
pub mod pretrain;
pub mod train;

use crate::Result;
use clap::{Parser, Subcommand};

/// Offline environments from decoder-only language models, and lean recommenders trained on their labels.
#[derive(Debug, Parser)]
#[command(
    name = "lea",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands, in the order of the pipeline.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import a data set, describe one, or make a synthetic one
    Data(data::DataCommand),
    /// Train a tokenizer and a small decoder from scratch on the items' text
    Pretrain(pretrain::PretrainCommand),
    /// Measure the speed of a stage beside the machine's own limit
    Bench(bench::BenchCommand),
    /// Train one recommender, with early stopping on the validation part
    Train(Box<train::TrainCommand>),
    /// Rank the test part with trained recommenders and baselines
    Eval(eval::EvalCommand),
    /// Continue a text with a decoder
    Generate(generate::GenerateCommand),
}

/// Runs what the command line asks for.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Data(args) => data::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
    }
}
