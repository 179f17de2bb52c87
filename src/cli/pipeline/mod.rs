//! The whole method, stage by stage: what `lea run` and `lea demo` share with the commands of the single steps.

pub mod base;
mod build;
pub mod environment;
mod folder;
pub mod given_labels;
pub mod recommenders;
pub mod summary;

use crate::cli::config::{RunConfig, SplitConfig};
use crate::cli::output;
use crate::cli::resume::ResumeArgs;
use crate::data::{Loaded, Split};
use crate::device::{Device, profile};
use crate::le::{LeData, read_labels};
use crate::rec::Labels;
use crate::report::RunRecord;
use crate::{Error, Result, files};
use given_labels::GivenLabels;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run: settings, data, and where everything goes.
pub struct Pipeline<'a> {
    /// Settings.
    pub config: &'a RunConfig,
    /// The data set.
    pub loaded: &'a Loaded,
    /// A decoder; `None` trains one from scratch.
    pub decoder: Option<base::Base>,
    /// Labels that were made before; with them no LE is made.
    pub labels: Option<GivenLabels>,
    /// Where to compute.
    pub device: Device,
    /// Folder of the run.
    pub out: &'a Path,
    /// Whether the files of an earlier run there are replaced.
    pub overwrite: bool,
    /// Whether such a run is gone on with.
    pub resume: &'a ResumeArgs,
    /// Name of the command.
    pub command: &'a str,
    /// Where the data was read.
    pub source: Option<PathBuf>,
    /// What the report is called.
    pub title: &'a str,
}

impl Pipeline<'_> {
    /// Runs every stage and writes `report.html`, `report.json`, `metrics.json` and `run.json`.
    pub fn run(mut self) -> Result<()> {
        let (config, dataset) = (self.config, &self.loaded.dataset);
        config.check()?;
        let given = self.labels.take();
        let recorded = recorded_settings(config, given.as_ref())?;
        let Some(folder) = self.open(&recorded, given.as_ref())? else { return Ok(()) };
        let mut record = RunRecord::start(&self.device, recorded, config.plan.seeds.clone());
        record.data_hash = Some(self.loaded.hash().to_string());
        self.save_data(&folder)?;
        let decoder = self.decoder.take();
        let mut made = None;
        let (split, labels) = match given {
            Some(given) => (given.split, given.set),
            None => {
                let SplitConfig { protocol, seed, le_share } = config.split;
                let split = Split::new(dataset, protocol, seed, le_share)?;
                let data = LeData::new(dataset, &split);
                made = Some(build::Builder::new(&self, &folder, data, &mut record)?.build(decoder)?);
                (split, read_labels(&self.out.join("labels"), dataset)?)
            }
        };
        split.save(&self.out.join("split.json"))?;
        let labels = Labels::from(labels);
        let compared = timed(&mut record, "recommenders", || {
            recommenders::compare(config, (dataset, &split), Some(&labels), &self.device, &folder)
        })?;
        folder.check_still_there()?;
        compared.metrics.write(&self.out.join("metrics.json"))?;
        record.metrics = Some(compared.metrics.clone());
        record.write(&self.out.join("run.json"))?;
        let report = summary::report(&self, &split, made.as_ref(), &compared, &record);
        report.write_json(&self.out.join("report.json"))?;
        report.write_html(&self.out.join("report.html"))?;
        folder.finish()?;
        output::line(crate::report::results_table(&compared.metrics).to_text().trim_end())?;
        output::line(format_args!("report: {}", self.out.join("report.html").display()))
    }
}

/// The settings of a run as they are recorded: with labels that were given, those stand in the place of the LE's.
fn recorded_settings(config: &RunConfig, given: Option<&GivenLabels>) -> Result<serde_json::Value> {
    let mut value = settings(config)?;
    if let (Some(given), Some(table)) = (given, value.as_object_mut()) {
        ["pretrain", "le", "seed"].iter().for_each(|key| drop(table.remove(*key)));
        table.insert("labels".into(), given.describe()?);
    }
    Ok(value)
}

/// The settings as they are recorded.
pub fn settings(config: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(config)
        .map_err(|e| Error::setting(format!("the settings cannot be recorded: {e}"), "choose finite numbers"))
}

/// Runs a stage, records its wall time, and names it in a profile.
pub fn timed<R>(record: &mut RunRecord, name: &str, stage: impl FnOnce() -> Result<R>) -> Result<R> {
    let start = Instant::now();
    let range = profile::range(|| name.into());
    let result = stage()?;
    drop(range);
    record.add_stage(name, start.elapsed().as_secs_f64());
    Ok(result)
}

/// Makes sure that `out` is new, or may be replaced.
pub fn open_folder(out: &Path, overwrite: bool) -> Result<()> {
    if overwrite {
        return std::fs::create_dir_all(out).map_err(|e| Error::io(out, e));
    }
    files::new_folder(out)
}
