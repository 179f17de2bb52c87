//! Amazon reviews.
#![no_main]

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("r.json").with("meta_r.json", b"{\"asin\": \"B\", \"title\": \"T\"}\n"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_as_data(bytes));
