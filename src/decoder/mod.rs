//! The Llama-family decoder and its forests.

mod bpe;
mod cache;
mod config;
pub mod forest;
mod generate;
mod identity;
mod layer;
mod lora;
mod model;
mod pretrain;
mod rows;
mod tokenizer;
pub mod weights;

pub use cache::{KvCache, Resident};
pub use config::DecoderConfig;
pub use forest::Forest;
pub use generate::{GenerateConfig, generate};
pub use identity::DecoderIdentity;
pub use layer::Layer;
pub use lora::LoraConfig;
pub use model::Decoder;
pub use pretrain::{PretrainConfig, PretrainReport, pretrain};
pub use rows::Rows;
pub use tokenizer::Tokenizer;
