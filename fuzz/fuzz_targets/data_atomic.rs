//! RecBole atomic files.
#![no_main]

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("a.inter").with("a.item", b"item_id:token\ttitle:token_seq\nx\tOne\n"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_as_data(bytes));
