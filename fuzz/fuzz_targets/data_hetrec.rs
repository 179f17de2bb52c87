//! HetRec files: a tag log.
#![no_main]

use lea_fuzz::Folder;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("user_taggedartists.dat").with("artists.dat", b"id\tname\n1\tBj\xf6rk\n"));

fuzz_target!(|bytes: &[u8]| FOLDER.try_as_data(bytes));
