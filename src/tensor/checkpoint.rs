//! Checkpoints of a long step: what it needs to go on with the same bits, in one `.safetensors` file that is only ever
//! replaced whole.

use super::Tensor;
use super::file::{self, TensorFile};
use super::file_write::to_bytes;
use crate::device::{DType, Device, profile};
use crate::progress::MetricsLog;
use crate::run_folder::RunFolder;
use crate::{Error, Result, files, interrupt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Checkpoints may take at most one part in this many of the time: writing a large one makes the next wait.
const SHARE: u32 = 60;

/// The state of a step at a consistent point.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it was read from, for messages.
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    state: String,
    log_bytes: u64,
}

impl Checkpoint {
    /// One that holds `state`: counters, positions of random streams, records. Figures that may be no numbers (a
    /// diverged loss) belong into [`Checkpoint::with_numbers`], for JSON has none.
    pub fn new(state: &impl Serialize) -> Result<Self> {
        let state = serde_json::to_string(state).map_err(|e| {
            Error::setting(format!("the state of the step cannot be kept: {e}"), "report this")
        })?;
        Ok(Checkpoint { path: PathBuf::new(), tensors: BTreeMap::new(), state, log_bytes: 0 })
    }

    /// Adds a tensor.
    pub fn with(mut self, name: impl Into<String>, tensor: Tensor) -> Self {
        self.tensors.insert(name.into(), tensor);
        self
    }

    /// Adds named tensors, with `prefix` before their names.
    pub fn with_all(mut self, prefix: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
        self
    }

    /// Adds numbers, which come back with the same bits.
    pub fn with_numbers(self, name: &str, numbers: &[f64]) -> Result<Self> {
        Ok(self.with(name, Tensor::from_slice(&Device::Cpu, numbers, &[numbers.len()])?))
    }

    /// The state that it was made of.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.state).map_err(|e| self.damaged("metadata state", e.to_string()))
    }

    /// The tensor `name`, of the given shape and type.
    pub fn tensor(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) if tensor.shape() == shape && tensor.dtype() == dtype => Ok(tensor.clone()),
            found => {
                let found = found.map_or("nothing".into(), |t| format!("{t:?}"));
                let problem = format!("expected {dtype} {shape:?}, found {found}");
                Err(self.damaged(&format!("tensor {name}"), problem))
            }
        }
    }

    /// The tensor `name`, of whatever shape and type it has.
    pub fn any_tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| self.damaged(&format!("tensor {name}"), "it is missing".into()))
    }

    /// The `N` numbers called `name`.
    pub fn numbers<const N: usize>(&self, name: &str) -> Result<[f64; N]> {
        let numbers = self.tensor(name, &[N], DType::F64)?.to_vec::<f64>()?;
        numbers.try_into().map_err(|_| self.damaged(&format!("tensor {name}"), format!("not {N} numbers")))
    }

    /// All tensors whose names begin with `prefix`, under the rest of their names.
    pub fn all(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let own = |(name, tensor): (&String, &Tensor)| {
            name.strip_prefix(prefix).map(|name| (name.to_string(), tensor.clone()))
        };
        self.tensors.iter().filter_map(own).collect()
    }

    /// An error about the state, for one that is well-formed and makes no sense.
    pub fn damaged_state(&self, problem: &str) -> Error {
        self.damaged("metadata state", problem.into())
    }

    fn damaged(&self, place: &str, problem: String) -> Error {
        damaged(&self.path, place, problem)
    }

    fn write(&self, path: &Path, run: &str) -> Result<()> {
        let metadata = [
            ("run", run.to_string()),
            ("log_bytes", self.log_bytes.to_string()),
            ("state", self.state.clone()),
            ("sha256", self.sha256()?),
        ];
        let tensors: Vec<(String, Tensor)> =
            self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        file::write(path, &tensors, &metadata.map(|(key, value)| (key.to_string(), value)).into())
    }

    /// Hex SHA-256 of all that a step goes on from: a changed bit in the moments would change its results unseen.
    fn sha256(&self) -> Result<String> {
        let mut digest = Sha256::new();
        // Every part with its length, so that no part passes for the end of the one before.
        let mut add = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        add(&self.log_bytes.to_le_bytes());
        add(self.state.as_bytes());
        for (name, tensor) in &self.tensors {
            add(name.as_bytes());
            add(format!("{} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
            add(&to_bytes(tensor)?);
        }
        Ok(files::hex(&digest.finalize()))
    }

    fn read(path: &Path, run: &str, device: &Device) -> Result<Self> {
        Self::read_checked(path, run, device).map_err(|error| match error {
            // What is wrong with a tensor file as such is told with what to do about a checkpoint.
            Error::Invalid { place, problem, .. } => damaged(path, &place, problem),
            other => other,
        })
    }

    fn read_checked(path: &Path, run: &str, device: &Device) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let metadata = |key: &str| {
            file.metadata(key)
                .ok_or_else(|| damaged(path, &format!("metadata {key}"), "it is missing".into()))
        };
        if metadata("run")? != run {
            return Err(damaged(path, "metadata run", "it is a checkpoint of another run".into()));
        }
        let log_bytes = metadata("log_bytes")?
            .parse()
            .map_err(|_| damaged(path, "metadata log_bytes", "it is no number".into()))?;
        let tensor = |name: String| Ok((name.clone(), file.read_stored(&name, device)?));
        let tensors = file.names().into_iter().map(tensor).collect::<Result<_>>()?;
        let state = metadata("state")?.to_string();
        let checkpoint = Checkpoint { path: path.to_path_buf(), tensors, state, log_bytes };
        let (expected, found) = (metadata("sha256")?, checkpoint.sha256()?);
        if found != expected {
            let problem = format!("the SHA-256 of the content is {found}, expected {expected}");
            return Err(damaged(path, "content", problem));
        }
        Ok(checkpoint)
    }
}

fn damaged(path: &Path, place: &str, problem: String) -> Error {
    let remedy = format!(
        "the checkpoint is damaged or not this run's: remove the file {} and resume: only this step begins again",
        path.display()
    );
    Error::invalid(path, place, problem, remedy)
}

/// Where a step keeps its checkpoints and when it writes them.
#[derive(Debug)]
pub struct Checkpoints<'a> {
    kept: Option<Kept<'a>>,
}

#[derive(Debug)]
struct Kept<'a> {
    folder: &'a RunFolder,
    path: PathBuf,
    /// What an earlier run left.
    left: Option<Checkpoint>,
    /// Length of the log when the step began.
    log_start: u64,
    due: Instant,
}

impl<'a> Checkpoints<'a> {
    /// None are kept: an interrupted step is lost.
    pub fn none() -> Self {
        Checkpoints { kept: None }
    }

    /// Those of the step `name` of the run in `folder`, with tensors on `device`. `log_start` is the length of the
    /// metrics log when the step begins: 0, unless steps before it wrote to the same log.
    ///
    /// # Errors
    /// A checkpoint that is damaged or another run's.
    pub fn new(folder: &'a RunFolder, name: &str, device: &Device, log_start: u64) -> Result<Self> {
        let path = folder.checkpoint_path(name);
        let left = match folder.resumed() && path.exists() {
            true => Some(Checkpoint::read(&path, &folder.fingerprint_hash(), device)?),
            false => None,
        };
        let due = Instant::now() + folder.checkpoint_every();
        Ok(Checkpoints { kept: Some(Kept { folder, path, left, log_start, due }) })
    }

    /// What the step goes on from, its log cut back to it; `None` where it begins, its log cut back to its beginning.
    pub fn begin(&mut self, log: &mut MetricsLog) -> Result<Option<Checkpoint>> {
        let Some(kept) = &mut self.kept else { return Ok(None) };
        let left = kept.left.take();
        log.cut(left.as_ref().map_or(kept.log_start, |left| left.log_bytes))?;
        Ok(left)
    }

    /// To be called at every consistent point, with what makes the checkpoint: writes it if it is time.
    ///
    /// # Errors
    /// [`Error::Interrupted`] with the checkpoint written, where the user asked to stop; `place` says how far the step
    /// has come. Whatever the file system refuses: the checkpoint before is then still there.
    pub fn point(
        &mut self,
        log: &MetricsLog,
        place: impl FnOnce() -> String,
        make: impl FnOnce() -> Result<Checkpoint>,
    ) -> Result<()> {
        if interrupt::requested() {
            let place = self.save(log, make()?).map(|()| place())?;
            return Err(Error::Interrupted { place });
        }
        match &self.kept {
            Some(kept) if Instant::now() >= kept.due => self.save(log, make()?),
            _ => Ok(()),
        }
    }

    /// Hands `result` on; where it says that the step was interrupted, the checkpoint is written first.
    pub fn keep_if_interrupted<T>(
        &mut self,
        log: &MetricsLog,
        result: Result<T>,
        make: impl FnOnce() -> Result<Checkpoint>,
    ) -> Result<T> {
        if let Err(Error::Interrupted { .. }) = result {
            self.save(log, make()?)?;
        }
        result
    }

    /// Writes a checkpoint now.
    pub fn save(&mut self, log: &MetricsLog, checkpoint: Checkpoint) -> Result<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let _range = profile::range(|| "checkpoint".into());
        let start = Instant::now();
        kept.folder.check_still_there()?;
        log.sync()?;
        let checkpoint = Checkpoint { log_bytes: log.bytes(), ..checkpoint };
        checkpoint.write(&kept.path, &kept.folder.fingerprint_hash())?;
        let every = kept.folder.checkpoint_every();
        let wait = if every.is_zero() { Duration::ZERO } else { every.max(start.elapsed() * SHARE) };
        kept.due = Instant::now() + wait;
        Ok(())
    }

    /// Removes the step's checkpoint: its results are written.
    pub fn discard(self) -> Result<()> {
        let Some(kept) = self.kept else { return Ok(()) };
        match std::fs::remove_file(&kept.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&kept.path, e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_folder::{Fingerprint, Opening, Start};
    use serde_json::json;

    fn folder(dir: &Path, every: Duration) -> RunFolder {
        let fingerprint = Fingerprint::new("test");
        let opening = Opening {
            outputs: vec!["log".into()],
            checkpoint_every: every,
            ..Opening::new(dir, Start::Resume, fingerprint)
        };
        opening.open().unwrap().expect("nothing was finished")
    }

    fn sample(step: u64) -> Result<Checkpoint> {
        let tensor = Tensor::from_slice(&Device::Cpu, &[0.1f32, 0.2], &[1, 2])?;
        Checkpoint::new(&json!({ "step": step }))?
            .with("w", tensor.clone())
            .with_all("optim.", [("w".to_string(), tensor)])
            .with_numbers("sums", &[0.1, f64::NAN])
    }

    #[test]
    fn a_step_goes_on_from_its_last_checkpoint_with_its_log_cut_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = folder(dir.path(), Duration::ZERO);
        let mut log = run.log("log").unwrap();
        let mut keep = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap();
        assert!(keep.begin(&mut log).unwrap().is_none());
        log.write(&json!({"step": 1})).unwrap();
        keep.point(&log, || "step 1".into(), || sample(1)).unwrap();
        log.write(&json!({"step": 2})).unwrap();
        drop((run, log));
        let run = folder(dir.path(), Duration::ZERO);
        let mut log = run.log("log").unwrap();
        let mut keep = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap();
        let left = keep.begin(&mut log).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "{\"step\":1}\n");
        assert_eq!(left.state::<serde_json::Value>().unwrap(), json!({"step": 1}));
        let w = left.tensor("w", &[1, 2], DType::F32).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(w, [0.1, 0.2]);
        assert_eq!(left.all("optim.").keys().collect::<Vec<_>>(), ["w"]);
        let [sum, nan] = left.numbers("sums").unwrap();
        assert!(sum == 0.1 && nan.is_nan());
        assert!(left.tensor("w", &[2], DType::F32).unwrap_err().to_string().contains("expected f32 [2]"));
        keep.discard().unwrap();
        assert!(!run.checkpoint_path("x").exists());
    }

    #[test]
    fn a_checkpoint_is_written_no_oftener_than_asked() {
        let dir = tempfile::tempdir().unwrap();
        let run = folder(dir.path(), Duration::from_secs(3600));
        let mut keep = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap();
        keep.point(&MetricsLog::none(), || unreachable!(), || unreachable!()).unwrap();
        assert!(!run.checkpoint_path("x").exists());
        keep.save(&MetricsLog::none(), sample(1).unwrap()).unwrap();
        assert!(run.checkpoint_path("x").exists());
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_and_without_it_the_step_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = folder(dir.path(), Duration::ZERO);
        let path = run.checkpoint_path("x");
        let mut keep = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap();
        keep.save(&MetricsLog::none(), sample(1).unwrap()).unwrap();
        drop(run);
        let run = folder(dir.path(), Duration::ZERO);
        let bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        let key = br#"\"step\":"#;
        let state = key.len() + bytes.windows(key.len()).position(|window| window == key).unwrap();
        let flipped = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            bytes
        };
        let cases = [
            (flipped(last), "content: the SHA-256"),
            (flipped(state), "content: the SHA-256"),
            (bytes[..last].to_vec(), "shorter or longer than its header says"),
            (bytes[..20].to_vec(), "header: "),
            (Vec::new(), "header: "),
        ];
        let remedy = format!("remove the file {} and resume: only this step begins again", path.display());
        for (bytes, problem) in cases {
            std::fs::write(&path, bytes).unwrap();
            let message = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap_err().to_string();
            assert!(message.contains(problem) && message.ends_with(&remedy), "{message}");
        }
        std::fs::remove_file(&path).unwrap();
        let mut keep = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap();
        assert!(keep.begin(&mut MetricsLog::none()).unwrap().is_none());
    }

    #[test]
    fn a_checkpoint_of_another_run_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(folder(dir.path(), Duration::ZERO));
        let run = folder(dir.path(), Duration::ZERO);
        sample(1).unwrap().write(&run.checkpoint_path("x"), "other").unwrap();
        let error = Checkpoints::new(&run, "x", &Device::Cpu, 0).unwrap_err().to_string();
        assert!(error.contains("checkpoint-x.safetensors") && error.contains("another run"), "{error}");
    }
}
