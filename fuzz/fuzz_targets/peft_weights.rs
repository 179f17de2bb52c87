//! An adapter of peft: its adapter_model.safetensors.
#![no_main]

use lea::decoder::Decoder;
use lea::device::{DType, Device};
use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static BASE: LazyLock<Decoder> = LazyLock::new(|| {
    Decoder::load(&lea_fuzz::fixture("family/qwen2"), &Device::Cpu, DType::F32).expect("a whole decoder")
});
static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::of_fixture("peft/paths_and_patterns", "adapter_model.safetensors"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_with(bytes, |dir| lea::le::peft::read_adapter(dir, &BASE)));
