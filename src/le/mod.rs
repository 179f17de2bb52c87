//! The offline environment (LE): item tokens, LE training, the labelling pass and its files (LEA, arXiv 2403.16948).

mod adapter_config;
pub mod config;
mod environment;
pub mod fit;
pub mod item_file;
pub mod item_tokens;
pub mod label;
pub mod label_files;
mod label_manifest;
mod label_set;
mod label_writer;
mod losses;
mod negatives;
pub mod pass;
pub mod peft;
mod peft_names;
pub mod quality;
pub mod score;
pub mod separate;
pub mod trunk;
mod work;

pub use adapter_config::decoder_folder;
pub use config::{Augment, FitConfig, ItemTokenConfig, LabelConfig, LeConfig, PromptConfig, StateLoss};
pub use environment::{Environment, Prompt, Step};
pub use item_file::{ITEM_TOKENS, ItemTokenOrigin, read_item_tokens, write_item_tokens};
pub use label::{Labeller, TokenCount};
pub use label_files::LabelBlock;
pub use label_manifest::{LabelFile, LabelHeader, LabelManifest, RewardStatistics, read_manifest};
pub use label_set::{LabelSet, read_labels};
pub use label_writer::LabelWriter;
pub use losses::{FitBatch, FitLosses, losses};
pub use pass::{LeData, judge, label_all, label_files_of};
pub use peft::{LeRecord, LoadedLe};
pub use quality::Quality;
pub use work::{Work, item_counts, packs};
