//! `lea report`: the page of a run, made again from its folder.

use super::output;
use crate::Result;
use crate::report::{Report, results_table};
use clap::Args;
use std::path::PathBuf;

/// `lea report`.
#[derive(Debug, Args)]
pub struct ReportCommand {
    /// Folder of a run
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Runs `lea report`.
pub fn run(args: ReportCommand) -> Result<()> {
    let report = Report::read(&args.dir.join("report.json"))?;
    let page = args.dir.join("report.html");
    report.write_html(&page)?;
    if let Some(metrics) = &report.metrics {
        output::line(results_table(metrics).to_text().trim_end())?;
    }
    output::line(format_args!("written to {}", page.display()))
}
