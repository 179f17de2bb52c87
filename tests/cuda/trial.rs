//! Parity tests in processes of their own, with faults in the kernels that they test.

use super::cuda_host::{self, READY};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A test that runs longer has hung.
const LONGEST: Duration = Duration::from_secs(120);

/// How a test ended.
#[derive(Debug)]
pub enum Outcome {
    Passed,
    Hung,
    /// What it wrote.
    Failed(String),
}

/// Runs the test of that name in this test program, with a stand-in from `folder` and a variable set.
pub fn run(folder: &Path, test: &str, variable: (&str, &str)) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let file = File::create(&log).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        .env(READY, folder)
        .env("CUDA_HOST_THREADS", "1")
        .env(variable.0, variable.1)
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            return Outcome::Hung;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = std::fs::read_to_string(&log).unwrap();
    if !status.success() {
        return Outcome::Failed(text);
    }
    assert!(text.contains("1 passed"), "there is no test {test}: {text}");
    Outcome::Passed
}

/// `f` of all, as many at once as there are processors; what it gave, in order.
pub fn all<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, found) = (Mutex::new(0..items.len()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(i) = next.lock().unwrap().next() else { break };
                    let result = f(&items[i]);
                    found.lock().unwrap().push((i, result));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|&(i, _)| i);
    found.into_iter().map(|(_, result)| result).collect()
}

/// The stand-in with a copy of the kernels, in which `change` may change the text of each file (`common/lea.cuh`).
pub fn with_changes(mut change: impl FnMut(&str, String) -> String) -> Result<PathBuf, String> {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path();
    for part in ["", "common/"] {
        std::fs::create_dir_all(copy.join(part)).unwrap();
        for entry in std::fs::read_dir(Path::new("kernels").join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let file = format!("{part}{}", path.file_name().unwrap().to_str().unwrap());
                let text = change(&file, std::fs::read_to_string(&path).unwrap());
                std::fs::write(copy.join(file), text).unwrap();
            }
        }
    }
    cuda_host::build(copy, "")
}
