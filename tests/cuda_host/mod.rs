//! CUDA devices for tests: the real ones where this machine has them, else the stand-in for the driver that runs the same
//! kernels on the CPU.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set, `cargo test` uses the GPU and its driver in place of the stand-in.
const REAL: &str = "LEA_TEST_CUDA";
/// A folder with a stand-in made before, with faults in its kernels: what `build` gives.
pub const READY: &str = "CUDA_HOST_FOLDER";
/// More flags for the compiler.
const FLAGS: &str = "CUDA_HOST_FLAGS";

/// The stand-in, compiled once for a state of its sources and of the kernels; or why it cannot be.
pub fn folder() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| match std::env::var_os(READY) {
            Some(ready) => Ok(ready.into()),
            None => build(Path::new("kernels"), &std::env::var(FLAGS).unwrap_or_default()),
        })
        .clone()
}

/// Whether a GPU and its driver are used in place of the stand-in.
pub fn real() -> bool {
    std::env::var_os(REAL).is_some()
}

/// Whether the stand-in of that folder watches for undefined behaviour.
pub fn sanitized(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("flags")).is_ok_and(|flags| flags.contains("-fsanitize=undefined"))
}

/// Compiles the stand-in with the kernels of a folder, and flags for the compiler.
pub fn build(kernels: &Path, flags: &str) -> Result<PathBuf, String> {
    if Command::new("g++").arg("--version").output().is_err() {
        return Err("there is no g++ to compile the kernels with".into());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_host");
    let mut hasher = Sha256::new();
    hasher.update(flags);
    for folder in [&here, &kernels.to_path_buf(), &kernels.join("common")] {
        for path in files(folder) {
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?);
        }
    }
    let hash: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_host");
    let made = all.join(&hash);
    std::fs::create_dir_all(&all).map_err(|e| e.to_string())?;
    // Test binaries run side by side: the first one builds, the others wait.
    let lock = std::fs::File::create(all.join(format!("{hash}.lock"))).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    if made.join("done").exists() {
        return Ok(made);
    }
    let output = Command::new(here.join("build"))
        .args([kernels, &made])
        .env(FLAGS, flags)
        .output()
        .map_err(|e| e.to_string())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(made.join("done"), "").map_err(|e| e.to_string())?;
    Ok(made)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|p| p.is_file()).collect();
    paths.sort();
    paths
}

/// The order in which the threads of a block run.
#[derive(Clone, Copy)]
pub enum Order {
    Ascending,
    Descending,
    /// By the number of the block.
    Shuffled,
}

/// The stand-in inside this process.
pub struct Loaded(libloading::Library);

impl Loaded {
    /// Which compute capabilities its devices have ("8.0,9.0"): before anybody asks for them.
    pub fn capabilities(&self, list: &str) {
        let list = std::ffi::CString::new(list).unwrap();
        // SAFETY: the function is the stand-in's own, of this type, and takes a copy.
        unsafe {
            let set = self
                .0
                .get::<unsafe extern "C" fn(*const std::ffi::c_char)>(b"cuda_host_capabilities")
                .unwrap();
            set(list.as_ptr());
        }
    }

    /// In which manner launches run from now on: asynchronous copies put off until they are waited for (as at first), or done
    /// at once; the threads of a block in which order (shuffled at first).
    pub fn manner(&self, deferred: bool, order: Order) {
        // SAFETY: the function is the stand-in's own, of this type.
        unsafe {
            let set = self.0.get::<unsafe extern "C" fn(i32, i32)>(b"cuda_host_manner").unwrap();
            set(i32::from(deferred), order as i32);
        }
    }
}

/// Loads the stand-in for cuBLASLt likewise, unless the real driver is wanted: then the real one is.
pub fn load_cublaslt() -> Result<(), String> {
    static LOADED: OnceLock<Result<Option<libloading::Library>, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        if real() {
            return Ok(None);
        }
        let path = folder()?.join("cublaslt/libcublasLt.so");
        // SAFETY: a library of ours.
        unsafe { libloading::Library::new(&path) }.map(Some).map_err(|e| format!("{}: {e}", path.display()))
    });
    loaded.as_ref().map(|_| ()).map_err(Clone::clone)
}

/// Loads the stand-in into this process, before anything asks for the driver: the system's loader gives out a library that
/// is there already under its name. `None` where the real driver is wanted, an error where there is no stand-in.
pub fn load() -> Result<Option<&'static Loaded>, String> {
    static LOADED: OnceLock<Result<Option<Loaded>, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        if real() {
            return Ok(None);
        }
        let path = folder()?.join("libcuda.so.1");
        // SAFETY: a library of ours, whose initialisers only fill a table.
        let library =
            unsafe { libloading::Library::new(&path) }.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Some(Loaded(library)))
    });
    loaded.as_ref().map(Option::as_ref).map_err(Clone::clone)
}
