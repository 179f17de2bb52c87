//! Sequential recommenders, their frameworks, training and evaluation.

mod ahead;
pub mod baselines;
mod batch;
mod choices;
mod config;
mod encoder;
mod evaluate;
mod feed;
pub mod frameworks;
mod gru4rec;
mod init;
mod labels;
mod layers;
mod layout;
mod learners;
mod network;
mod noise;
mod objective;
mod sasrec;
pub mod saved;
mod trainer;

pub use crate::data::ranking as metrics;
pub use ahead::ahead;
pub use batch::{Batch, UserSteps, epoch_batches, training_users};
pub use config::{EncoderKind, Framework, NextState, RecConfig, RewardScale, Variant};
pub use encoder::Encoder;
pub use evaluate::{EvalSteps, evaluate};
pub use feed::{Feed, Leaves, StepData};
pub use labels::{Labels, RewardMap};
pub use layout::Layout;
pub use learners::{Learners, StepLosses};
pub use network::Network;
pub use noise::Noise;
pub use objective::{Objective, objective};
pub use trainer::{EpochRecord, Trained, read_curve, train};
