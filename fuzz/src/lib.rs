//! A folder in which one file is what the fuzzer makes it, and the others are whole.

use std::path::{Path, PathBuf};

/// The folder of one fuzz target, in memory where the system has such a place.
pub struct Folder {
    dir: tempfile::TempDir,
    spoilt: &'static str,
}

/// A folder of the tests' fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

impl Folder {
    /// An empty folder whose file `spoilt` is the fuzzer's.
    pub fn new(spoilt: &'static str) -> Self {
        let dir =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        Folder { dir, spoilt }
    }

    /// A copy of the fixture `name` whose file `spoilt` is the fuzzer's.
    pub fn of_fixture(name: &str, spoilt: &'static str) -> Self {
        let folder = Folder::new(spoilt);
        for entry in std::fs::read_dir(fixture(name)).expect("the tests' fixtures") {
            let path = entry.expect("an entry").path();
            std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("room");
        }
        folder
    }

    /// Puts a whole file beside.
    pub fn with(self, name: &str, bytes: &[u8]) -> Self {
        std::fs::write(self.path().join(name), bytes).expect("room");
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the fuzzer's file, gives the folder to `read`, and asks that an error says something.
    pub fn try_with<T>(&self, bytes: &[u8], read: impl FnOnce(&Path) -> lea::Result<T>) {
        std::fs::write(self.path().join(self.spoilt), bytes).expect("room");
        if let Err(e) = read(self.path()) {
            assert!(e.to_string().contains("; "), "no remedy: {e}");
        }
    }

    /// Reads the folder as a data set, strictly and dropping what cannot be used.
    pub fn try_as_data(&self, bytes: &[u8]) {
        for skip_bad_rows in [false, true] {
            let options = lea::data::LoadOptions { skip_bad_rows, ..Default::default() };
            self.try_with(bytes, |dir| lea::data::load(dir, &options));
        }
    }
}
