//! Writing files so that a reader never sees half of one, and hashing what is read.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `fill`: to a temporary name beside it, synced, then renamed over the final name, and the folder
/// synced, so that a power failure does not undo the renaming.
/// On any error before that the temporary file is removed and whatever stood at `path` is left as it was.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let temporary = temporary_name(path);
    let written = (|| {
        let mut out = BufWriter::new(File::create(&temporary)?);
        fill(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        Error::io(path, e)
    })?;
    sync_folder(dir).map_err(|e| Error::io(dir, e))
}

/// Has the names in the folder `dir` on the disk.
#[cfg(unix)]
fn sync_folder(dir: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        // A file system that syncs no folders, or a folder that may be written and not read.
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        synced => synced,
    }
}

/// A folder cannot be opened as a file there.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// As [`write_atomic`]; the size and hash of what was written come back, without reading it again.
pub fn write_hashed(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<FileHash> {
    let mut hashed = (0, String::new());
    write_atomic(path, |out| {
        let mut out = Hashing { out, digest: Sha256::new(), bytes: 0 };
        fill(&mut out)?;
        hashed = (out.bytes, hex(&out.digest.finalize()));
        Ok(())
    })?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(FileHash { file, bytes: hashed.0, sha256: hashed.1 })
}

/// Hashes what passes through.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    digest: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// No two writers have one name for it, not even two machines that share the folder and number their processes alike.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let drawn = RandomState::new().hash_one(std::process::id());
    name.push(format!(".{drawn}.tmp"));
    path.with_file_name(name)
}

/// `x` of `x.NUMBER.tmp`, the name under which `x` is written; `None` of any other name.
pub fn final_name(temporary: &str) -> Option<&str> {
    let (name, drawn) = temporary.strip_suffix(".tmp")?.rsplit_once('.')?;
    let is_number = !drawn.is_empty() && drawn.bytes().all(|b| b.is_ascii_digit());
    (is_number && !name.is_empty()).then_some(name)
}

/// Reads a whole file, naming it in the error.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io(path, e))
}

/// Reads a whole UTF-8 file; a byte that is not UTF-8 is an error with its line.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        Error::invalid(path, format!("line {line}"), "the text is not UTF-8", "convert the file to UTF-8")
    })
}

/// Whether the folder `dir` holds anything but locks and what is `ours` by its name.
pub fn is_taken(dir: &Path, ours: impl Fn(&str) -> bool) -> Result<bool> {
    let is_lock = |name: &str| name.starts_with(".lea-") && name.ends_with("lock");
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let name = entry.map_err(|e| Error::io(dir, e))?.file_name();
        if !name.to_str().is_some_and(|name| is_lock(name) || ours(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses an output folder that already holds something, so that no run mixes its files with another's. Made, where it
/// is not there.
pub fn new_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
    if is_taken(path, |_| false)? {
        return Err(Error::setting(
            format!("the output folder {} exists and is not empty", path.display()),
            "name another with --out, remove it, or pass --overwrite to replace its files",
        ));
    }
    Ok(())
}

/// Hex SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits of `digest`.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// What tells whether a file is still the one that was read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHash {
    /// File name without its folder.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Hex SHA-256 of the file as it lies on disk.
    pub sha256: String,
}

impl FileHash {
    /// Hashes the file at `path` without holding it in memory.
    pub fn of(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut digest = Sha256::new();
        let bytes = std::io::copy(&mut file, &mut digest).map_err(|e| Error::io(path, e))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(FileHash { file, bytes, sha256: hex(&digest.finalize()) })
    }

    /// Hashes the file of that name in `dir` again.
    ///
    /// # Errors
    /// A size or hash that is not the recorded one, with `remedy`.
    pub fn check(&self, dir: &Path, remedy: &str) -> Result<()> {
        let path = dir.join(&self.file);
        let found = FileHash::of(&path)?;
        let (place, problem) = match (found.bytes == self.bytes, found.sha256 == self.sha256) {
            (true, true) => return Ok(()),
            (false, _) => ("size", format!("{} bytes, expected {}", found.bytes, self.bytes)),
            _ => ("content", format!("its SHA-256 is {}, expected {}", found.sha256, self.sha256)),
        };
        Err(Error::invalid(path, place, problem, remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_name_leads_back_to_the_final_one_and_no_other_name_does() {
        let temporary = temporary_name(Path::new("a/resume.json"));
        assert_eq!(final_name(temporary.file_name().unwrap().to_str().unwrap()), Some("resume.json"));
        for other in ["resume.json", "x.tmp", "x..tmp", ".7.tmp", "x.old.tmp", "x.7.tmp.gz", "x.-7.tmp"] {
            assert_eq!(final_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_changed_is_not_the_one_that_was_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"abc").unwrap();
        let hash = FileHash::of(&path).unwrap();
        assert_eq!(hash.sha256, sha256(b"abc"));
        assert_eq!(write_hashed(&path, |out| out.write_all(b"abc")).unwrap(), hash);
        hash.check(dir.path(), "").unwrap();
        for (content, message) in
            [(&b"abd"[..], "content: its SHA-256"), (b"ab", "size: 2 bytes, expected 3")]
        {
            std::fs::write(&path, content).unwrap();
            let error = hash.check(dir.path(), "write it again").unwrap_err().to_string();
            assert!(error.contains(message) && error.ends_with("write it again"), "{error}");
        }
    }
}
