//! `lea report`: one page out of what one or several steps left in their folders.

use super::output;
use crate::report::{Report, results_table};
use crate::{Error, Result};
use clap::Args;
use std::path::{Path, PathBuf};

/// `lea report`.
#[derive(Debug, Args)]
pub struct ReportCommand {
    /// Folders of a run, or of lea fit, label, train and eval; what they hold becomes one page
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Page to write [default: report.html in the first folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs `lea report`.
pub fn run(args: ReportCommand) -> Result<()> {
    let mut report = Report::default();
    for dir in &args.dirs {
        report.merge(read(dir)?)?;
    }
    let page = args.out.unwrap_or_else(|| args.dirs[0].join("report.html"));
    report.write_html(&page)?;
    if let Some(metrics) = &report.metrics {
        output::line(results_table(metrics).to_text().trim_end())?;
    }
    output::line(format_args!("written to {}", page.display()))
}

fn read(dir: &Path) -> Result<Report> {
    let path = dir.join("report.json");
    if !path.is_file() {
        return Err(Error::setting(
            format!("{} holds no report.json", dir.display()),
            "name the folder of a finished demo, run, fit, label, train, or eval --out",
        ));
    }
    Report::read(&path)
}
