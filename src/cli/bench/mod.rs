//! `lea bench`: the speed of one piece of work beside the machine's own limits, and what got slower between two runs.

mod against;
mod all;
mod attention;
mod catalogue;
mod compare;
mod decoder;
mod eval;
mod fit;
mod harness;
mod label;
mod matmul;
mod recommender;
mod record;
mod table;
mod train;

use crate::Result;
use clap::{Args, Subcommand};

/// `lea bench`.
#[derive(Debug, Args)]
pub struct BenchCommand {
    /// What is measured.
    #[command(subcommand)]
    pub stage: BenchStage,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchStage {
    /// One product a·bᵀ
    Matmul(matmul::MatmulBench),
    /// Forest attention as in the labelling pass, or causal
    Attention(attention::AttentionBench),
    /// The labelling pass: rewards of given actions at every step, random weights
    Label(label::LabelBench),
    /// One optimiser step of the LE's training, random weights
    Fit(fit::FitBench),
    /// One optimiser step of a recommender
    Train(train::TrainBench),
    /// Full ranking of the catalogue by a recommender
    Eval(eval::EvalBench),
    /// All of these, one after another
    All(all::AllBench),
    /// What got slower from one run to another, beyond noise; ends with exit status 1 if anything did
    Compare(compare::CompareCommand),
    /// This program beside another lea, in turn on the same machine; ends with exit status 1 if it is slower
    Against(against::AgainstCommand),
    /// The labelling pass with the whole catalogue as candidates of a long history: memory and time, random weights
    Catalogue(catalogue::CatalogueBench),
}

/// Runs `lea bench`.
pub fn run(args: BenchCommand) -> Result<()> {
    let (records, json) = match args.stage {
        BenchStage::Matmul(bench) => (vec![matmul::measure(&bench)?], bench.timing.json),
        BenchStage::Attention(bench) => (vec![attention::measure(&bench)?], bench.timing.json),
        BenchStage::Label(bench) => (vec![label::measure(&bench)?], bench.timing.json),
        BenchStage::Fit(bench) => (vec![fit::measure(&bench)?], bench.timing.json),
        BenchStage::Train(bench) => (vec![train::measure(&bench)?], bench.timing.json),
        BenchStage::Eval(bench) => (vec![eval::measure(&bench)?], bench.timing.json),
        BenchStage::All(bench) => return all::run(&bench),
        BenchStage::Compare(command) => return compare::run(&command),
        BenchStage::Against(command) => return against::run(&command),
        BenchStage::Catalogue(bench) => return catalogue::run(&bench),
    };
    table::print(&records, json)
}
