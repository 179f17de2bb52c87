//! A decoder's config.json.
#![no_main]

use lea::decoder::DecoderConfig;
use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("config.json"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_with(bytes, DecoderConfig::load));
