//! Layers, optimisers and losses.

mod optim;
mod schedule;

pub use optim::{AdamW, AdamWConfig, StepInfo, Submitted};
pub use schedule::{Decay, Schedule};
pub mod init;
mod linear;

pub use linear::{Linear, Lora};
