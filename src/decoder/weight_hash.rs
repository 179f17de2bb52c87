//! The hash of a large weight file, which takes seconds, and its memory from one start to the next.
//!
//! The hash is SHA-256 over the SHA-256 of every [`CHUNK`] bytes, so that all threads can work on it and its value does
//! not depend on their number. What was found is kept in the user's cache folder, one small file for each weight file,
//! and counts as long as path, device, inode, size and times of the weight file are what they were.

use crate::tensor::file::TensorFile;
use crate::{Error, Result, files};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes that are hashed as one piece.
const CHUNK: usize = 4 << 20;
/// Clocks of file systems are coarse: a file that changed this recently may change again and keep its times.
const SETTLED: Duration = Duration::from_secs(2);

/// Hex SHA-256 over the chunks of `bytes`.
fn chunked(bytes: &[u8]) -> String {
    let chunks: Vec<_> = bytes.par_chunks(CHUNK).map(Sha256::digest).collect();
    let mut all = Sha256::new_with_prefix(b"lea-chunks-1");
    chunks.iter().for_each(|chunk| all.update(chunk));
    files::hex(&all.finalize())
}

/// The folder for what can be found again: `$XDG_CACHE_HOME/lea`, else `~/.cache/lea`; `None` where neither is told.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    absolute("XDG_CACHE_HOME").or_else(home).map(|dir| dir.join("lea"))
}

/// Hex SHA-256 over the chunks of `file`, from the folder `cache` if it is known there. A cache that cannot be read or
/// written costs time, nothing else.
///
/// # Errors
/// The file was changed meanwhile.
pub(super) fn hash(file: &TensorFile, cache: Option<&Path>) -> Result<String> {
    let stamp = Stamp::of(file)?;
    let entry = cache.map(|dir| dir.join(format!("weights-{}.json", stamp.name())));
    if let Some(known) = entry.as_deref().and_then(Entry::read).filter(|entry| entry.stamp == stamp) {
        return Ok(known.sha256);
    }
    let settled = stamp.is_settled(SystemTime::now());
    let sha256 = chunked(file.all());
    let after = Stamp::of(file)?;
    if (after.bytes, after.modified) != (stamp.bytes, stamp.modified) {
        let problem = "the file was changed while it was read";
        let remedy = "wait for what writes it, or fetch the file again, and start anew";
        return Err(Error::invalid(file.path(), "weights", problem, remedy));
    }
    if let Some(path) = entry.filter(|_| settled && after == stamp) {
        Entry { stamp, sha256: sha256.clone() }.write(&path);
    }
    Ok(sha256)
}

/// What changes where the content of a file does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    /// Last change of the content, as its writer would have it.
    modified: Time,
    /// Last change of content, owner or name, as the system has it.
    changed: Time,
}

/// Seconds and nanoseconds since 1970.
type Time = (i64, i64);

impl Stamp {
    /// Of the file that is open, whatever lies under its name by now.
    fn of(file: &TensorFile) -> Result<Self> {
        let io = |e| Error::io(file.path(), e);
        let metadata = file.file_metadata()?;
        let [device, inode] = place(&metadata);
        let [modified, changed] = times(&metadata).map_err(io)?;
        let path = file.path().canonicalize().map_err(io)?;
        Ok(Stamp { path, device, inode, bytes: metadata.len(), modified, changed })
    }

    /// A name for the path.
    fn name(&self) -> String {
        files::sha256(self.path.as_os_str().as_encoded_bytes())
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let settled = now.checked_sub(SETTLED).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
        let newest = self.modified.max(self.changed).0;
        settled.is_some_and(|then| i64::try_from(then.as_secs()).is_ok_and(|then| newest < then))
    }
}

#[cfg(unix)]
fn place(metadata: &Metadata) -> [u64; 2] {
    use std::os::unix::fs::MetadataExt;
    [metadata.dev(), metadata.ino()]
}

#[cfg(unix)]
fn times(metadata: &Metadata) -> std::io::Result<[Time; 2]> {
    use std::os::unix::fs::MetadataExt;
    Ok([(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())])
}

#[cfg(not(unix))]
fn place(_: &Metadata) -> [u64; 2] {
    [0; 2]
}

#[cfg(not(unix))]
fn times(metadata: &Metadata) -> std::io::Result<[Time; 2]> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok([(since.as_secs() as i64, i64::from(since.subsec_nanos())); 2])
}

/// What is kept of one file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    stamp: Stamp,
    sha256: String,
}

impl Entry {
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    fn write(&self, path: &Path) {
        // A path that is no text has no entry.
        if let Ok(text) = serde_json::to_vec_pretty(self) {
            let _ = files::write_atomic(path, |out| out.write_all(&text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::tensor::{Tensor, file};
    use std::collections::BTreeMap;
    use std::fs::File;

    /// A file of a bit more than two chunks, last changed long ago.
    fn weights(dir: &Path) -> PathBuf {
        let values: Vec<f32> = (0..(CHUNK / 2 + 999)).map(|i| i as f32).collect();
        let tensor = Tensor::from_slice(&Device::Cpu, &values, &[values.len()]).unwrap();
        let path = dir.join("model.safetensors");
        file::write(&path, &[("a".into(), tensor)], &BTreeMap::new()).unwrap();
        path
    }

    fn change(path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn one_changed_byte_anywhere_is_seen_and_threads_do_not_matter() {
        let mut bytes: Vec<u8> = (0..2 * CHUNK + 77).map(|i| (i % 251) as u8).collect();
        let before = chunked(&bytes);
        // As another program computes it: LEs and labels of earlier versions name it.
        assert_eq!(before, "287c49f32f549ee6400824e934706775631eeeae5d0d22b5a3921dfa0357a543");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| chunked(&bytes)), before);
        for at in [0, 4097, CHUNK - 1, CHUNK, 2 * CHUNK + 76] {
            bytes[at] ^= 1;
            assert_ne!(chunked(&bytes), before, "{at}");
            bytes[at] ^= 1;
        }
        assert_ne!(chunked(&bytes[..2 * CHUNK]), before);
    }

    #[test]
    fn what_is_known_is_used_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, cache) = (weights(dir.path()), dir.path().join("cache"));
        let open = || TensorFile::open(&path).unwrap();
        // Just written: not to be trusted yet.
        let first = hash(&open(), Some(&cache)).unwrap();
        assert!(!cache.exists());
        let stamp = Stamp::of(&open()).unwrap();
        assert!(!stamp.is_settled(SystemTime::now()));
        assert!(stamp.is_settled(SystemTime::now() + 2 * SETTLED));

        std::thread::sleep(SETTLED + Duration::from_secs(1));
        assert_eq!(hash(&open(), Some(&cache)).unwrap(), first);
        let entry = cache.join(format!("weights-{}.json", stamp.name()));
        let known = Entry::read(&entry).unwrap();
        assert_eq!(known.sha256, first);
        Entry { sha256: "known".into(), ..known }.write(&entry);
        assert_eq!(hash(&open(), Some(&cache)).unwrap(), "known");

        // The same size, and the time of its content as it was.
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        change(&path, 2 * CHUNK);
        #[cfg(unix)]
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let second = hash(&open(), Some(&cache)).unwrap();
        assert!(second != "known" && second != first);

        // An entry that is damaged is none.
        std::fs::write(&entry, "{").unwrap();
        assert_eq!(hash(&open(), Some(&cache)).unwrap(), second);
    }

    #[test]
    fn a_cache_that_cannot_be_written_costs_only_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = weights(dir.path());
        let file = TensorFile::open(&path).unwrap();
        let expected = hash(&file, None).unwrap();
        std::thread::sleep(SETTLED + Duration::from_secs(1));
        // A file where the folder would be: that is refused even to a user who may write anywhere.
        let blocked = dir.path().join("blocked");
        std::fs::write(&blocked, "").unwrap();
        assert_eq!(hash(&file, Some(&blocked.join("lea"))).unwrap(), expected);
    }
}
