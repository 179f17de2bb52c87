//! The safetensors reader: every tensor that opens can be read.
#![no_main]

use lea::device::Device;
use lea::tensor::file::TensorFile;
use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("x.safetensors"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_with(bytes, |dir| {
    let file = TensorFile::open(&dir.join("x.safetensors"))?;
    file.names().iter().try_for_each(|name| file.read_stored(name, &Device::Cpu).map(drop))
}));
