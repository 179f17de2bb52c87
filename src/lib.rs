//! `lea` turns a decoder-only language model into an offline environment for recommender training, labels a
//! data set with it, and trains lean sequential recommenders on the labels (LEA, arXiv 2403.16948).
//!
//! The modules stand in layers; a module imports only from those listed before it:
//! [`device`], [`tensor`] and [`ops`], [`autograd`], [`nn`], [`data`], [`decoder`], [`le`], [`rec`],
//! [`report`], [`cli`]. [`error`](Error), [`files`], [`progress`], [`interrupt`] and [`run_folder`] serve all of them.
#![warn(missing_docs)]

mod error;
pub mod files;
pub mod interrupt;
pub mod progress;
pub mod run_folder;

pub mod device;

pub mod ops;
pub mod tensor;

pub mod autograd;

pub mod nn;

pub mod data;

pub mod decoder;

pub mod le;

pub mod rec;

pub mod report;

pub mod cli;

pub use error::{Error, Result};
