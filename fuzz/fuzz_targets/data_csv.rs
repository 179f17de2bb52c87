//! Tables with commas.
#![no_main]

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    Folder::new("interactions.csv").with("items.csv", b"item_id,title\nx,\"One, 1\"\ny,Two\n")
});

fuzz_target!(|bytes: &[u8]| FOLDER.try_as_data(bytes));
