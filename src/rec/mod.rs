//! Sequential recommenders, their frameworks, training and evaluation.

mod batch;
mod config;
mod labels;

pub use batch::{Batch, UserSteps, epoch_batches, training_users};
pub use config::{EncoderKind, Framework, NextState, RecConfig, RewardScale, Variant};
pub use labels::{Labels, RewardMap};
pub mod baselines;
pub use crate::data::ranking as metrics;
