//! Amazon metadata, as JSON and as Python writes it.
#![no_main]

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    Folder::new("meta_r.json")
        .with("r.json", b"{\"reviewerID\": \"A\", \"asin\": \"B\", \"unixReviewTime\": 1}\n")
});

fuzz_target!(|bytes: &[u8]| FOLDER.try_as_data(bytes));
