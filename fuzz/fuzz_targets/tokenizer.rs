//! A decoder's tokenizer.json.
#![no_main]

use lea::decoder::{DecoderConfig, Tokenizer};
use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::of_fixture("llama/untied", "tokenizer.json"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_with(bytes, |dir| Tokenizer::load(dir, &DecoderConfig::load(dir)?)));
