//! The Llama-family decoder and its forests.

mod bpe;
mod config;
mod tokenizer;
pub mod weights;

pub use config::DecoderConfig;
pub use tokenizer::Tokenizer;
pub mod forest;
pub use forest::Forest;
