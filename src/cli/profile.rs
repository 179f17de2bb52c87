//! `lea profile`: a step as it is, with every kernel timed.

use super::measure::ceilings;
use super::{fit, items, label, output, pretrain, train};
use crate::device::{Device, profile};
use crate::report::{ProfileReport, write_trace};
use crate::{Error, Result, interrupt};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Heading of the flags that are not the step's own.
const HEADING: &str = "Options of the profile";

/// `lea profile`.
#[derive(Debug, Args)]
pub struct ProfileCommand {
    /// The step, with its own flags
    #[command(subcommand)]
    pub step: ProfiledStep,
    /// Write a trace for ui.perfetto.dev or chrome://tracing
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write a page with the roofline and the flame of stages
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write all of it as data
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Stop the step at its first consistent point after so many seconds; the step itself goes on from there with --resume.
    /// What is recorded takes some 200 bytes of memory an op
    #[arg(long, global = true, help_heading = HEADING, value_name = "SECONDS", allow_negative_numbers = true)]
    pub limit_seconds: Option<f64>,
    /// Extent N of the square product, the ceiling of compute or on the CPU beside it; the copy that measures memory has 16 N² numbers at
    /// most [default: 2048, doubled until a product takes 10 ms]
    #[arg(long, global = true, help_heading = HEADING, value_name = "N")]
    pub ceiling: Option<usize>,
}

/// The steps that can be profiled, each as the command of its name.
#[derive(Debug, Subcommand)]
pub enum ProfiledStep {
    /// As lea label
    Label(label::LabelCommand),
    /// As lea fit
    Fit(Box<fit::FitCommand>),
    /// As lea items
    Items(items::ItemsCommand),
    /// As lea pretrain
    Pretrain(pretrain::PretrainCommand),
    /// As lea train
    Train(Box<train::TrainCommand>),
}

impl ProfiledStep {
    fn name(&self) -> &'static str {
        match self {
            ProfiledStep::Label(_) => "label",
            ProfiledStep::Fit(_) => "fit",
            ProfiledStep::Items(_) => "items",
            ProfiledStep::Pretrain(_) => "pretrain",
            ProfiledStep::Train(_) => "train",
        }
    }

    fn device(&self) -> &Device {
        match self {
            ProfiledStep::Label(step) => &step.common.device,
            ProfiledStep::Fit(step) => &step.le.device,
            ProfiledStep::Items(step) => &step.le.device,
            ProfiledStep::Pretrain(step) => &step.device,
            ProfiledStep::Train(step) => &step.device,
        }
    }

    /// Whether most of its products are with weights as the device stores frozen ones.
    fn has_frozen_weights(&self) -> bool {
        matches!(self, ProfiledStep::Label(_) | ProfiledStep::Fit(_) | ProfiledStep::Items(_))
    }

    fn run(self) -> Result<()> {
        match self {
            ProfiledStep::Label(step) => label::run(step),
            ProfiledStep::Fit(step) => fit::run(*step),
            ProfiledStep::Items(step) => items::run(step),
            ProfiledStep::Pretrain(step) => pretrain::run(step),
            ProfiledStep::Train(step) => train::run(*step),
        }
    }
}

/// Runs `lea profile`.
///
/// # Errors
/// Those of the step; an interruption only after what was recorded until then is told.
pub fn run(args: ProfileCommand) -> Result<()> {
    let limit = args.limit_seconds.map(limit).transpose()?;
    let (step, device) = (args.step.name(), args.step.device().clone());
    let frozen = args.step.has_frozen_weights();
    // Ahead of the step and behind it: the device may be faster or slower by then. The larger rates are its limits.
    let before = ceilings::measured(&device, frozen, args.ceiling)?;
    limit.map_or(Ok(()), interrupt::limit)?;
    let (ended, recorded) = profile::record(&device, || Ok(args.step.run()))?;
    let stopped = match &ended {
        Err(Error::Interrupted { place }) => Some(place.clone()),
        Err(_) => return ended,
        Ok(()) => None,
    };
    let after = ceilings::measured(&device, frozen, args.ceiling)?;
    let ceiling = before.or_better(after);
    let mut report = ProfileReport::new(step, device.describe(), &recorded, ceiling);
    report.stopped = stopped;
    print(&report)?;
    for (path, written) in [
        (&args.trace, args.trace.as_ref().map(|path| write_trace(path, &report.device, &recorded))),
        (&args.html, args.html.as_ref().map(|path| report.write_html(path))),
        (&args.json, args.json.as_ref().map(|path| report.write_json(path))),
    ] {
        if let (Some(path), Some(written)) = (path, written) {
            written?;
            output::line(format_args!("written to {}", path.display()))?;
        }
    }
    if interrupt::past_limit() {
        return Ok(());
    }
    ended
}

fn limit(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Error::setting(format!("--limit-seconds {seconds} is no time"), "give seconds, 0 or more")
    })
}

fn print(report: &ProfileReport) -> Result<()> {
    output::line(format_args!("\nlea {} on {}", report.step, report.machine()))?;
    if let Some(place) = &report.stopped {
        output::line(format_args!("stopped before its end: {place}; lea {} --resume goes on", report.step))?;
    }
    if report.kernels.is_empty() {
        return output::line("no kernel ran");
    }
    output::line(report.kernel_table().to_text().trim_end())?;
    output::line(report.ceiling_line())?;
    report.remark().map_or(Ok(()), output::line)?;
    output::line(format_args!("\n{}", report.stage_table().to_text().trim_end()))
}
