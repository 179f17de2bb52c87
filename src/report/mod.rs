//! Tables, plots, the HTML report and the records of a run. Nothing here knows how the numbers were made.
//!
//! - [`Metrics`] is `metrics.json`: one row of HR and NDCG per encoder, framework and variant.
//! - [`RunRecord`] is `run.json`: what was run, on what, how long it took.
//! - [`Report`] is `report.json`, from which [`Report::html`] renders `report.html`.
//! - [`ProfileReport`] is what `lea profile` tells: kernels beside the device's limits, stages, a page with a roofline.
//! - [`Table`] prints to a terminal and to HTML; [`plot`] draws the report's figures as SVG.

mod ceiling;
mod document;
mod escape;
mod html;
mod json;
mod merge;
mod metrics;
mod number;
pub mod plot;
mod profile;
mod quality;
mod results;
mod run_record;
mod sections;
mod table;

pub use ceiling::{BOUNDS_FROM, Bound, Ceiling, ComputeLimit};
pub use document::{Fact, ForestSavings, PassCost, Report};
pub use metrics::{METRIC_NAMES, Metrics, MetricsRow, Scores, SeedScores};
pub use profile::{KernelFigures, ProfileReport, StageFigures, write_trace};
pub use quality::{AugmentedQuality, EnvironmentQuality, PairAccuracy};
pub use results::results_table;
pub use run_record::{RunRecord, Stage, git_revision};
pub use table::{Align, Cell, Table};
