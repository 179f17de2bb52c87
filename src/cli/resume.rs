//! The flags of commands that run long: go on after an interruption.

use super::output;
use crate::interrupt;
use crate::run_folder::{Fingerprint, Opening, RunFolder, Start};
use crate::{Error, Result};
use clap::Args;
use std::path::Path;
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

/// Locks the folder for the run, and has Ctrl-C stop it at a consistent point from here on. `None` where the run is
/// finished already: that was printed.
pub fn open(opening: Opening) -> Result<Option<RunFolder>> {
    let out = opening.dir.display();
    let folder = opening.open()?;
    let Some(folder) = folder else {
        output::line(format_args!("{out}: the run is finished, nothing is to be done"))?;
        return Ok(None);
    };
    if let [first, others @ ..] = folder.missing() {
        let more = match others.len() {
            0 => String::new(),
            n => format!(", and {n} more are gone or changed"),
        };
        output::line(format_args!(
            "{out}: the run was finished, but {first}{more}: what made it is done again"
        ))?;
    }
    let kept = folder.kept();
    interrupt::listen(move || kept.told())?;
    Ok(Some(folder))
}

impl ResumeArgs {
    /// A run in the folder `out`, where the files of an earlier one are replaced if `overwrite` says so; what it reads and
    /// writes is to be added.
    pub fn opening<'a>(
        &self,
        out: &'a Path,
        overwrite: bool,
        fingerprint: Fingerprint,
    ) -> Result<Opening<'a>> {
        let opening = Opening::new(out, self.start(overwrite), fingerprint);
        Ok(Opening { checkpoint_every: self.checkpoint_every()?, ..opening })
    }

    /// What is to be done with the files that stand in the folder.
    fn start(&self, overwrite: bool) -> Start {
        match (self.resume, overwrite) {
            (true, _) => Start::Resume,
            (_, true) => Start::Overwrite,
            _ => Start::New,
        }
    }

    /// Time between two checkpoints.
    fn checkpoint_every(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.checkpoint_every).map_err(|_| {
            Error::setting(
                format!("--checkpoint-every {} is no time", self.checkpoint_every),
                "give seconds, 0 or more",
            )
        })
    }
}
