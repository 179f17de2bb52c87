//! Tables with tabs.
#![no_main]

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("interactions.tsv").with("items.tsv", b"item_id\ttitle\nx\tOne\ny\tTwo\n"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_as_data(bytes));
