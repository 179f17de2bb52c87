//! `report.json`: everything that `report.html` shows, so that the page can be made again from the folder of a run.

use super::plot::{Curves, Histogram};
use super::{EnvironmentQuality, Metrics, Stage, html, json};
use crate::{Result, files};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One line of the summary of what was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about: `data`, `decoder`, `device` …
    pub name: String,
    /// What it is.
    pub value: String,
}

/// What a labelling pass cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PassCost {
    /// Rewards that were computed.
    pub labels: u64,
    /// Token rows that the decoder processed.
    pub tokens: u64,
    /// Wall time in seconds.
    #[serde(deserialize_with = "json::nan_if_null")]
    pub seconds: f64,
}

impl PassCost {
    /// Token rows a label.
    pub fn tokens_per_label(&self) -> f64 {
        self.tokens as f64 / self.labels.max(1) as f64
    }

    /// Milliseconds a label.
    pub fn milliseconds_per_label(&self) -> f64 {
        1e3 * self.seconds / self.labels.max(1) as f64
    }
}

/// The labelling pass as a forest beside the same labels from separate prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ForestSavings {
    /// The pass as it ran.
    pub forest: PassCost,
    /// Token rows that separate prompts need for the same labels.
    pub separate_tokens: u64,
    /// Separate prompts as measured, possibly on a part of the labels; absent when they were not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separate: Option<PassCost>,
}

impl ForestSavings {
    /// How many times more token rows separate prompts need: the speed-up to expect.
    pub fn predicted_speed_up(&self) -> f64 {
        self.separate_tokens as f64 / self.forest.tokens.max(1) as f64
    }

    /// How many times longer separate prompts took, per label; absent when they were not run.
    pub fn measured_speed_up(&self) -> Option<f64> {
        let separate = self.separate.filter(|pass| pass.labels > 0)?;
        Some(separate.milliseconds_per_label() / self.forest.milliseconds_per_label())
    }
}

/// The content of `report.json`. Every section may be absent; the page leaves it out then.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// One paragraph below the title; may be empty.
    pub introduction: String,
    /// What was run.
    pub facts: Vec<Fact>,
    /// What the recommenders reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Learning curves.
    pub curves: Vec<Curves>,
    /// Quality of the environment on held-out users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentQuality>,
    /// Rewards of positives against negatives.
    pub rewards: Vec<Histogram>,
    /// What the forest saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forest: Option<ForestSavings>,
    /// Wall time of every stage.
    pub stages: Vec<Stage>,
}

impl Report {
    /// Appends a line to the summary of what was run.
    pub fn fact(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.facts.push(Fact { name: name.into(), value: value.into() });
    }

    /// The page: self-contained HTML with inline style and figures. Equal reports give equal bytes.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Writes `report.json`.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }

    /// Writes `report.html`.
    pub fn write_html(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, |out| out.write_all(self.html().as_bytes()))
    }

    /// Reads `report.json`; what does not fit is an error with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        json::read(path, "the file is not a report of this version: repeat the run, or mend the line by hand")
    }
}
