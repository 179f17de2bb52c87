//! `lea bench against`: this program beside another `lea`, in turn, so that a machine which gets faster or slower meanwhile does
//! so for both.

use super::compare::{check, is_same_work, records_in, tell};
use super::record::Record;
use crate::{Error, Result};
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `lea bench against`.
#[derive(Debug, Args)]
pub struct AgainstCommand {
    /// The other lea: what it takes is the time before
    #[arg(value_name = "BINARY")]
    pub other: PathBuf,
    /// Runs of each program, one of this after one of that and the other way round
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub rounds: usize,
    /// Percent by which a median must have grown to count as slower, beside what noise asks for
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    pub threshold: f64,
    /// Print one line of JSON a measured piece of work
    #[arg(long)]
    pub json: bool,
    /// What is measured, with its flags: matmul --m 4096 --samples 5. Each run takes as many samples
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "BENCH")]
    pub bench: Vec<OsString>,
}

/// Runs `lea bench against`.
///
/// # Errors
/// A program that cannot be run or fails, and, last of all, that this one is slower.
pub fn run(args: &AgainstCommand) -> Result<()> {
    check(args.threshold)?;
    if args.rounds == 0 {
        return Err(Error::setting("--rounds 0 measures nothing", "take at least 1"));
    }
    let own = std::env::current_exe().map_err(|e| {
        Error::setting(format!("this program does not find itself: {e}"), "name it by its path")
    })?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let mut sides = [(&args.other, &mut before), (&own, &mut after)];
        if round % 2 == 1 {
            sides.reverse();
        }
        for (program, records) in sides {
            take_in(records, measured(program, &args.bench)?);
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    let names = [args.other.display().to_string(), "this program".into()];
    tell([&before, &after], names, args.threshold, args.json)
}

/// What one run of a program tells.
fn measured(program: &Path, bench: &[OsString]) -> Result<Vec<Record>> {
    let refused = |problem: String| {
        Error::setting(format!("{} {problem}", program.display()), "name a lea, and a bench that it has")
    };
    let mut command = Command::new(program);
    let command =
        command.arg("bench").args(bench).arg("--json").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| refused(format!("cannot be run: {e}")))?;
    if !output.status.success() {
        return Err(refused(format!("failed ({})", output.status)));
    }
    records_in(&String::from_utf8_lossy(&output.stdout), program)
}

fn take_in(all: &mut Vec<Record>, records: Vec<Record>) {
    for record in records {
        match all.iter_mut().find(|other| is_same_work(other, &record)) {
            Some(other) => other.take_in(&record),
            None => all.push(record),
        }
    }
}
