//! What keeps other runs out of a folder.

use super::place::Place;
use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

/// Held while a run writes to its folder.
#[derive(Debug)]
pub(super) struct Locks {
    pub own: File,
    /// Of a part: the lock of a whole run, shared by all parts.
    pub _shared: Option<File>,
}

/// The lock of a folder that no run is recorded in; dropped, it is let go.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks the folder `dir`, which is there, by the lock of a whole run.
    ///
    /// # Errors
    /// Another process that writes there now.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = Place { dir, part: None }.lock_path();
        Ok(FolderLock { _file: hold(dir, &path, File::try_lock)? })
    }
}

/// Opens the file `path` in the folder `dir` and locks it by `lock`.
pub(super) fn hold(
    dir: &Path,
    path: &Path,
    lock: fn(&File) -> std::result::Result<(), TryLockError>,
) -> Result<File> {
    // Never removed: a process that had opened it before could then hold a lock on a file that nobody sees.
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| Error::io(path, e))?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::setting(
            format!("another run of lea is writing to {} now", dir.display()),
            "wait for its end, stop it, or name another folder with --out",
        )),
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
            eprintln!("{}: the file system has no locks: let no second run write there", dir.display());
            Ok(file)
        }
        Err(TryLockError::Error(e)) => Err(Error::io(path, e)),
    }
}

#[cfg(unix)]
pub(super) fn same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |m: std::fs::Metadata| (m.dev(), m.ino());
    match (open.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        _ => false,
    }
}

#[cfg(not(unix))]
pub(super) fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}
