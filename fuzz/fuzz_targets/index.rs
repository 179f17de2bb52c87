//! The index of a sharded decoder.
#![no_main]

use lea::decoder::Decoder;
use lea::device::{DType, Device};
use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::of_fixture("llama/sharded", "model.safetensors.index.json"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_with(bytes, |dir| Decoder::load(dir, &Device::Cpu, DType::F32)));
