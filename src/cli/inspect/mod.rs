//! `lea inspect`: what a folder holds, what of it will be used, and how much memory each step will need.

mod adapter;
mod holdings;
pub mod memory;
mod unfinished;

use super::config::RunConfig;
use super::output;
use crate::decoder::DecoderConfig;
use crate::device::Device;
use crate::{Error, Result};
use clap::Args;
use holdings::{Found, Holding};
use memory::{DataSize, Estimate};
use std::path::PathBuf;

/// `lea inspect`.
#[derive(Debug, Args)]
pub struct InspectCommand {
    /// A data set (raw or imported), a decoder, an LE, item tokens, labels or shards of them, a recommender, an adapter
    /// of peft, a split, a tokenizer, an evaluation, any safetensors file, or a run with several, finished or not; le.json, config.json and
    /// such stand for their folder
    #[arg(value_name = "PATH")]
    pub dir: PathBuf,
    /// Settings that the memory is told for, and data is read by, as in configs/
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Items that the memory is told for [default: those found in the folder, else 10000]
    #[arg(long, value_name = "N")]
    pub items: Option<usize>,
    /// Users that the memory is told for [default: those found in the folder, else 10000]
    #[arg(long, value_name = "N")]
    pub users: Option<usize>,
    /// Events of all users that the memory is told for [default: those found in the folder, else 10 a user]
    #[arg(long, value_name = "N")]
    pub interactions: Option<usize>,
    /// Device that the memory is told for: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto; it decides in what
    /// type frozen weights are stored
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Items, and users, where nothing tells how many there are.
const MANY: usize = 10_000;

/// Runs `lea inspect`. Whatever is found is opened and checked as the steps do it.
///
/// # Errors
/// Nothing there that is known, and, after all is told, parts that are broken.
pub fn run(args: InspectCommand) -> Result<()> {
    let settings = args.config.as_deref().map(RunConfig::load).transpose()?;
    let (all, problems) = holdings::find(&args.dir)?;
    if all.is_empty() && problems.is_empty() {
        let problem = format!("{} holds nothing that lea reads", args.dir.display());
        let remedy = "looked for, in it and in its folders data, decoder, items, le, labels and rec: data in a format that lea data \
             import reads, config.json, le.json, adapter_config.json, manifest.json, labels-*, split.json, tokenizer.json, metrics.json, resume.json, *.safetensors";
        return Err(Error::setting(problem, remedy));
    }
    let options = settings.as_ref().map(|settings| settings.data.clone()).unwrap_or_default();
    let mut found = Found { options, ..Found::default() };
    let mut broken = problems.len();
    for Holding { kind, place } in &all {
        let told = kind.describe(place, &mut found);
        output::line(format_args!("{} in {}", kind.name(), place.display()))?;
        let told = told.unwrap_or_else(|problem| {
            broken += 1;
            vec![("broken", problem.to_string())]
        });
        for (name, value) in told {
            output::line(format_args!("  {name:<18} {value}"))?;
        }
    }
    for problem in problems {
        output::line(format_args!("not to be read\n  {:<18} {problem}", "broken"))?;
    }
    memory_of(&found, settings, &args)?;
    match broken {
        0 => Ok(()),
        1 => Err(Error::setting("1 part is broken", "what to do about it is said above, with the part")),
        n => Err(Error::setting(format!("{n} parts are broken"), "what to do is said above, with each")),
    }
}

/// Prints the memory where there is a decoder to tell it for.
fn memory_of(found: &Found, settings: Option<RunConfig>, args: &InspectCommand) -> Result<()> {
    let Some(decoder) = &found.decoder else { return Ok(()) };
    let mut settings = settings.unwrap_or_default();
    if let (Some(le), None) = (&found.le, &args.config) {
        settings.le = le.clone();
    }
    let items = args.items.or(found.items).unwrap_or(MANY);
    let size = match found.data {
        Some(data) if data.items == items && args.users.is_none() && args.interactions.is_none() => data,
        data => {
            let users = args.users.or(data.map(|data| data.users)).unwrap_or(MANY);
            let interactions = data.filter(|data| data.users == users).map(|data| data.interactions);
            DataSize::guessed(users, items, args.interactions.or(interactions))
        }
    };
    print_memory(&decoder.config, &settings, &size, &args.device)
}

fn print_memory(
    decoder: &DecoderConfig,
    settings: &RunConfig,
    size: &DataSize,
    device: &Device,
) -> Result<()> {
    let DataSize { users, items, interactions, .. } = *size;
    let of = format_args!("memory with {items} items, {users} users and {interactions} interactions, in MB");
    output::line(of)?;
    output::line("  step        weights   trained      pass     total")?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let rows: [(&str, Estimate); 5] = [
        ("pretrain", memory::pretrain(decoder, settings)),
        ("items", memory::items(decoder, settings, items, device)),
        ("fit", memory::fit(decoder, settings, items, device)),
        ("label", memory::label(decoder, settings, items, device)),
        ("train", memory::train(decoder, settings, size)),
    ];
    for (name, e) in rows {
        output::line(format_args!(
            "  {name:<9} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            mb(e.weights),
            mb(e.trained),
            mb(e.pass),
            mb(e.total())
        ))?;
    }
    output::line(format_args!(
        "  frozen projections of items, fit and label: {} on {device}",
        device.frozen_type()
    ))?;
    output::line(format_args!(
        "  beside each: the data set, {:.1} MB, and up to 805 MB of buffers kept for the next pass",
        mb(memory::data(size))
    ))
}
