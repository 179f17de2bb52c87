//! Properties of recommenders: encoders, losses, training, files.

#[path = "rec/catalogue.rs"]
mod catalogue;
#[path = "rec/encoders.rs"]
mod encoders;
#[path = "rec/files.rs"]
mod files;
#[path = "rec/losses.rs"]
mod losses;
#[path = "rec/training.rs"]
mod training;
