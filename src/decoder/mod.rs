//! The Llama-family decoder and its forests.

mod bpe;
mod cache;
mod config;
mod config_fields;
mod config_file;
mod config_keys;
mod config_values;
pub mod forest;
mod generate;
mod guarded;
mod identity;
mod json_syntax;
mod layer;
mod lora;
mod model;
mod pretrain;
mod rope_scaling;
mod rows;
mod tokenizer;
mod weight_hash;
pub mod weights;

pub use cache::{KvCache, Resident};
pub use config::{DecoderConfig, Family};
pub use forest::Forest;
pub use generate::{GenerateConfig, generate};
pub use identity::DecoderIdentity;
pub use layer::Layer;
pub use lora::{AdapterShape, LoraConfig};
pub(crate) use lora::{PROJECTIONS, module_path};
pub use model::Decoder;
pub use pretrain::{PretrainConfig, PretrainReport, pretrain};
pub use rope_scaling::RopeScaling;
pub use rows::Rows;
pub use tokenizer::Tokenizer;
