//! The command line, one file a subcommand.

pub mod bench;
pub mod config;
pub mod data;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod fit;
mod freed_memory;
pub mod generate;
pub mod inspect;
pub mod items;
pub mod label;
pub mod labels;
mod measure;
mod output;
pub mod pipeline;
pub mod pretrain;
pub mod profile;
pub mod report;
pub mod resume;
pub mod run;
pub mod split;
pub mod train;

use crate::device::{FrozenType, auto, cpu, cuda, webgpu};
use crate::{Error, Result, interrupt};
use clap::{Command as Parsed, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Heading of the flags that every command takes and that say how a device computes.
const DEVICE_OPTIONS: &str = "Options of the device, with any command";
/// Commands that have to do with devices though they take none.
const OF_DEVICES: [&str; 2] = ["doctor", "inspect"];

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
    /// Kernels of WebGPU to use: plain, subgroups, f16, which stores frozen weights in half precision, or cooperative, which
    /// multiplies activations with them in half precision too; the best exact ones that the adapter has unless given
    #[arg(long, global = true, help_heading = DEVICE_OPTIONS, value_name = "TIER")]
    pub webgpu_tier: Option<webgpu::Tier>,
    /// Type in which a CUDA device stores a decoder's frozen projections: bf16, multiplied on tensor cores, or f32; bf16
    /// unless given
    #[arg(long, global = true, help_heading = DEVICE_OPTIONS, value_name = "TYPE")]
    pub cuda_dtype: Option<FrozenType>,
    /// Products of frozen projections in bf16 on a CUDA device: those of lea, or of cublaslt, NVIDIA's library, where it is
    /// installed; lea unless given. With cublaslt the bits of a label may depend on --pack-tokens
    #[arg(long, global = true, help_heading = DEVICE_OPTIONS, value_name = "WHOSE")]
    pub gemm: Option<cuda::Gemm>,
    /// Type in which the CPU computes with a decoder's frozen projections: f32, or bf16, several times as fast where the
    /// processor has AVX-512 BF16; f32 unless given
    #[arg(long, global = true, help_heading = DEVICE_OPTIONS, value_name = "TYPE")]
    pub cpu_dtype: Option<FrozenType>,
    /// Instruction set of the CPU's kernels: portable, avx2 or avx512; the best that the processor has unless given. The bits of
    /// labels depend on it: processors that differ make the same where all take the lowest
    #[arg(long, global = true, help_heading = DEVICE_OPTIONS, value_name = "SET")]
    pub cpu_set: Option<cpu::simd::Level>,
    /// Megabytes that tensors on a CUDA or WebGPU device may take; labelling then takes the largest packs that fit. As much as
    /// its driver gives unless given
    #[arg(long, global = true, help_heading = DEVICE_OPTIONS, value_name = "MB", value_parser = bytes_of_megabytes)]
    pub device_memory: Option<u64>,
    /// Lose the WebGPU device after so many launches, to see how a run goes on
    #[arg(long, global = true, value_name = "N", hide = true)]
    pub lose_device_after: Option<u64>,
    /// Stall for ever after so many consistent points of a long step, to see how a run is ended amid an operation
    #[arg(long, global = true, value_name = "N", hide = true)]
    pub stall_after: Option<u64>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands, in the order of the pipeline.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole method on a built-in synthetic catalogue, in minutes
    Demo(demo::DemoCommand),
    /// The whole method on a data set
    Run(run::RunCommand),
    /// Import a data set, describe one, or make a synthetic one
    Data(data::DataCommand),
    /// Train a tokenizer and a small decoder from scratch on the items' text
    Pretrain(pretrain::PretrainCommand),
    /// Learn one token an item, from which the decoder writes the item's text
    Items(items::ItemsCommand),
    /// Train the environment: adapters, score head, item tokens
    Fit(Box<fit::FitCommand>),
    /// Label every step of every user with states, rewards and augmented actions
    Label(label::LabelCommand),
    /// Finish labels that were made in shards, or label some users again and compare
    Labels(labels::LabelsCommand),
    /// Train one recommender, with early stopping on the validation part
    Train(Box<train::TrainCommand>),
    /// Rank the test part with trained recommenders and baselines
    Eval(eval::EvalCommand),
    /// Make the page of a run again from its folder
    Report(report::ReportCommand),
    /// Tell what a folder holds, and how much memory each step will need
    Inspect(inspect::InspectCommand),
    /// List the devices of this machine, and what each can do
    Doctor(doctor::DoctorCommand),
    /// Continue a text with a decoder
    Generate(generate::GenerateCommand),
    /// Run a step and tell where its time goes, kernel by kernel, beside the limits of the device
    Profile(profile::ProfileCommand),
    /// Measure the speed of one piece of work beside the machine's own limits, and compare two runs
    Bench(bench::BenchCommand),
}

fn bytes_of_megabytes(text: &str) -> std::result::Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * 1e6) as u64),
        _ => Err("give megabytes, more than 0".into()),
    }
}

/// Parses the command line of this process; ends it where that is wrong, and where help or the version is asked for.
pub fn parse() -> Cli {
    let mut command = Cli::command();
    command.build();
    let matches = without_idle_options(command).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
}

/// The command, built, whose help leaves out the device's options where no part of it computes on a device. They are taken all the
/// same: a script may set them for all of its commands.
fn without_idle_options(command: Parsed) -> Parsed {
    let takes_device = command.get_arguments().any(|arg| arg.get_id() == "device");
    let parts: Vec<String> = command
        .get_subcommands()
        .map(|part| part.get_name().to_string())
        .filter(|name| name != "help")
        .collect();
    if !parts.is_empty() {
        return parts
            .iter()
            .fold(command, |command, part| command.mut_subcommand(part, without_idle_options));
    }
    if takes_device || OF_DEVICES.contains(&command.get_name()) {
        return command;
    }
    command.mut_args(|arg| {
        let idle = arg.get_help_heading() == Some(DEVICE_OPTIONS);
        if idle { arg.hide(true) } else { arg }
    })
}

/// Runs what the command line asks for.
pub fn run(cli: Cli) -> Result<()> {
    if !cuda::opened().is_empty() {
        freed_memory::keep();
    }
    cli.stall_after.into_iter().for_each(interrupt::stall_after);
    if let Some(tier) = cli.webgpu_tier {
        webgpu::force_tier(tier);
    }
    if let Some(frozen) = cli.cuda_dtype {
        cuda::force_frozen_type(frozen);
    }
    cli.cpu_set.map_or(Ok(()), cpu::simd::choose)?;
    if let Some(frozen) = cli.cpu_dtype {
        cpu::force_frozen_type(frozen);
    }
    for cuda in cuda::opened() {
        cli.gemm.map_or(Ok(()), |gemm| cuda.set_gemm(gemm))?;
        cli.device_memory.into_iter().for_each(|bytes| cuda.limit_memory(bytes));
    }
    if let Some(told) = auto::take_told() {
        eprintln!("{told}");
    }
    for gpu in webgpu::adapter::opened() {
        gpu.tier()?;
        cli.device_memory.into_iter().for_each(|bytes| gpu.limit_memory(bytes));
        cli.lose_device_after.into_iter().for_each(|launches| gpu.lose_after(launches));
        if gpu.description().is_software() {
            eprintln!(
                "{gpu} is a software adapter ({}): its speed is that of the processor at best",
                gpu.description().info.name
            );
        }
    }
    if let (Some(tier), false) = (cli.webgpu_tier, matches!(cli.command, Command::Doctor(_)))
        && webgpu::adapter::opened().is_empty()
    {
        let cuda: Vec<String> = cuda::opened().iter().map(ToString::to_string).collect();
        let device = cuda.first().map_or("cpu", String::as_str);
        eprintln!("--webgpu-tier {tier} has no effect on {device}");
    }
    // What makes the batches of a command smaller is told where they need more memory than there is.
    let batches = cli.command.batch_setting();
    run_command(cli.command).map_err(|error| match batches {
        Some(setting) => error.with_batch_setting(setting),
        None => error,
    })
}

impl Command {
    /// The flag that makes its batches smaller, or where else that is set.
    fn batch_setting(&self) -> Option<&'static str> {
        match self {
            Command::Demo(_) => Some("batch_tokens and batch_steps in a configuration for lea run"),
            Command::Run(_) => Some("batch_tokens and batch_steps in the file of --config"),
            Command::Pretrain(_) | Command::Fit(_) => Some("--batch-tokens"),
            Command::Items(_) => Some("batch_tokens under [le.items] in the file of --config"),
            Command::Train(_) => Some("--batch-steps"),
            _ => None,
        }
    }
}

fn run_command(command: Command) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(args).map_err(Error::of_resumable),
        Command::Doctor(args) => doctor::run(args),
        Command::Run(args) => run::run(args).map_err(Error::of_resumable),
        Command::Data(args) => data::run(args),
        Command::Pretrain(args) => pretrain::run(args).map_err(Error::of_resumable),
        Command::Items(args) => items::run(args).map_err(Error::of_resumable),
        Command::Fit(args) => fit::run(*args).map_err(Error::of_resumable),
        Command::Label(args) => label::run(args).map_err(Error::of_resumable),
        Command::Labels(args) => labels::run(args),
        Command::Train(args) => train::run(*args).map_err(Error::of_resumable),
        Command::Eval(args) => eval::run(args),
        Command::Report(args) => report::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_flags_of_a_command_collide() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_keeps_the_devices_options_apart_and_tells_them_where_there_is_a_device() {
        let mut command = Cli::command();
        command.build();
        let command = without_idle_options(command);
        let help = |path: &[&str]| {
            let mut command = path.iter().fold(command.clone(), |command, part| {
                command.find_subcommand(part).unwrap_or_else(|| panic!("no {part}")).clone()
            });
            command.render_long_help().to_string()
        };
        for path in [&["bench", "matmul"][..], &["label"], &["profile", "train"], &["doctor"]] {
            let text = help(path);
            let (own, of_device) = text.split_once(DEVICE_OPTIONS).unwrap_or_else(|| panic!("{text}"));
            let flags = ["--gemm", "--webgpu-tier", "--cpu-set", "--device-memory"];
            assert!(flags.iter().all(|flag| !own.contains(&format!("{flag} "))), "{text}");
            assert!(flags.iter().all(|flag| of_device.contains(flag)), "{text}");
        }
        for path in [&["bench", "compare"][..], &["data", "synth"], &["data", "stats"], &["report"]] {
            assert!(!help(path).contains("--gemm"), "{path:?}");
        }
        assert!(Cli::try_parse_from(["lea", "report", "d", "--cpu-dtype", "bf16"]).is_ok());
    }
}
