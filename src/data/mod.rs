//!
//! A [`Dataset`] is items with text and users with time-ordered events over dense item numbers `0..items`.
//! [`load`] reads a folder (raw or imported), [`save`] writes an imported one, [`Split`] says which steps are
//! trained, validated and tested.

mod dataset;
mod filters;
mod folder;
mod histories;
mod loaded;
mod manifest;
mod negatives;
mod open;
pub mod ranking;
mod read;
mod save;
mod segments;
mod splits;
mod stats;
mod synth;
mod synth_config;
mod synth_words;

pub use dataset::{Dataset, Event, Feedback, Item, TextSource, User};
pub use filters::{FilterReport, Filters};
pub use folder::{LoadOptions, is_data_folder, load};
pub use histories::Histories;
pub use loaded::Loaded;
pub use negatives::{NegativeKind, NegativeSampler, check_unmet, met_items};
pub use open::{ByUser, open};
pub use read::{Format, Order, ReadReport, Skipped, StoredUsers, UnknownItems};
pub use save::{save, save_locked};
pub use segments::{Segment, segments};
pub use splits::{LeShare, Part, Protocol, Split, SplitSurvey};
pub use stats::Stats;
pub use synth::synthesise;
pub use synth_config::SynthConfig;
