//! The flags of commands that run long: go on after an interruption.

use super::output;
use crate::interrupt;
use crate::run_folder::{Fingerprint, Opening, RunFolder, Start};
use crate::{Error, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a run that was interrupted goes on.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Go on where the same command stopped in that folder; begins in an empty one, and leaves a finished run alone
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Seconds between two checkpoints; 0 writes one at every step
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub checkpoint_every: f64,
}

/// The names of the files in a command's folder.
pub fn names(outputs: &[&str]) -> Vec<String> {
    outputs.iter().map(|name| name.to_string()).collect()
}

/// What a command wants to write and from what.
pub struct Request<'a> {
    /// Its folder.
    pub out: &'a Path,
    /// Which of several runs that share it.
    pub part: Option<&'a str>,
    /// Whether the files of an earlier run there are replaced.
    pub overwrite: bool,
    /// What the run is.
    pub fingerprint: Fingerprint,
    /// Files and folders that it reads.
    pub inputs: Vec<PathBuf>,
    /// Files that it writes, see [`Opening`].
    pub outputs: Vec<String>,
    /// Those of them without which it is not finished, see [`Opening`].
    pub results: Vec<String>,
}

impl ResumeArgs {
    /// Locks the folder for the run, and has Ctrl-C stop it at a consistent point from here on. `None` where the run is
    /// finished already: that was printed.
    pub fn open(&self, request: Request) -> Result<Option<RunFolder>> {
        let Request { out, part, overwrite, fingerprint, inputs, outputs, results } = request;
        let opening = Opening {
            dir: out,
            part,
            start: self.start(overwrite),
            fingerprint,
            inputs,
            outputs,
            results,
            checkpoint_every: self.checkpoint_every()?,
        };
        let folder = opening.open()?;
        match &folder {
            Some(_) => interrupt::listen()?,
            None => {
                output::line(format_args!("{}: the run is finished, nothing is to be done", out.display()))?
            }
        }
        Ok(folder)
    }

    /// What is to be done with the files that stand in the folder.
    pub fn start(&self, overwrite: bool) -> Start {
        match (self.resume, overwrite) {
            (true, _) => Start::Resume,
            (_, true) => Start::Overwrite,
            _ => Start::New,
        }
    }

    /// Time between two checkpoints.
    pub fn checkpoint_every(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.checkpoint_every).map_err(|_| {
            Error::setting(
                format!("--checkpoint-every {} is no time", self.checkpoint_every),
                "give seconds, 0 or more",
            )
        })
    }
}
