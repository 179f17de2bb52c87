//! A labels folder: its labels-00000-of-00001.safetensors.
#![no_main]

#[path = "../../tests/label_sample/mod.rs"]
mod label_sample;

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new("labels-00000-of-00001.safetensors");
    let data = label_sample::dataset();
    label_sample::write(folder.path(), &data, &label_sample::header(&data, label_sample::rich()), 1);
    folder
});

fuzz_target!(|bytes: &[u8]| FOLDER.try_with(bytes, |dir| lea::le::read_labels(dir, &label_sample::dataset())));
