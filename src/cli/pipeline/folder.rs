//! The folder of a whole run: what the run is, what it writes there, and the stage of the data.

use super::Pipeline;
use super::base::Base;
use super::environment::LE_FILES;
use super::given_labels::GivenLabels;
use super::recommenders::jobs;
use crate::Result;
use crate::cli::resume::{self, names};
use crate::data::save;
use crate::le::LabelPart;
use crate::run_folder::{Fingerprint, Opening, RunFolder};
use serde_json::Value;

/// Apart from the LE, its labels and the recommenders.
const FILES: [&str; 15] = [
    "data/dataset.json",
    "data/interactions.tsv",
    "data/items.tsv",
    "decoder/config.json",
    "decoder/model.safetensors",
    "decoder/tokenizer.json",
    "decoder/tokenizer_config.json",
    "le.jsonl",
    "metrics.json",
    "report.html",
    "report.json",
    "run.json",
    "split.json",
    "labels/manifest.json",
    "labels/split.json",
];

impl Pipeline<'_> {
    /// Locks the folder of the run, whose settings are `recorded`; `None` where it is finished already.
    pub(super) fn open(&self, recorded: &Value, given: Option<&GivenLabels>) -> Result<Option<RunFolder>> {
        let mut settings = recorded.clone();
        if let Some(table) = settings.as_object_mut() {
            // The data counts by what was read, not by where it lay; so do labels.
            table.remove("data");
            table.get_mut("labels").and_then(Value::as_object_mut).map(|labels| labels.remove("folder"));
        }
        let decoder = self.decoder.as_ref().map(Base::describe);
        let fingerprint = Fingerprint::new(self.command)
            .with("settings", settings)?
            .with("data", self.loaded.hash())?
            .with("decoder", decoder.transpose()?)?
            .with("device", self.device.arithmetic())?;
        let decoder_dir = self.decoder.as_ref().map(|decoder| &decoder.dir);
        let folders = [self.source.as_ref(), decoder_dir, given.map(GivenLabels::dir)];
        resume::open(Opening {
            inputs: folders.into_iter().flatten().cloned().collect(),
            outputs: self.outputs()?,
            ..self.resume.opening(self.out, self.overwrite, fingerprint)?
        })
    }

    fn outputs(&self) -> Result<Vec<String>> {
        let mut outputs = names(&FILES);
        outputs.extend(LE_FILES.map(|name| format!("le/{name}")));
        outputs.extend(LabelPart::any_file_names().map(|name| format!("labels/{name}")));
        for job in jobs(self.config)? {
            outputs.extend(["jsonl", "safetensors"].map(|end| format!("rec/{}.{end}", job.stem())));
        }
        Ok(outputs)
    }

    /// Writes the data set that was read into the folder.
    pub(super) fn save_data(&self, folder: &RunFolder) -> Result<()> {
        if folder.stage::<()>("data").is_none() {
            // Tables without their manifest are no import that could be replaced.
            folder.remove(&["data/dataset.json", "data/interactions.tsv", "data/items.tsv"])?;
            save(self.loaded, &self.out.join("data"), true)?;
            folder.finish_stage("data", &())?;
        }
        Ok(())
    }
}
