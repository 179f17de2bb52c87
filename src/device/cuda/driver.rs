//! The NVIDIA driver: whether it is there, what it offers, and its calls with our errors in place of its numbers.
//!
//! cudarc panics where the driver's library, or a function in it, is absent. So both are looked for first.

use super::launch::{PTX, Ptx, choose};
use crate::device::pool::REMEDY;
use crate::{Error, Result};
use cudarc::driver::sys::{self, CUresult};
use std::ffi::CStr;
use std::sync::{LazyLock, OnceLock};

/// Oldest driver that is taken, as `cuDriverGetVersion` tells it: CUDA 12.2, driver 535. The kernels' PTX (version 8.0) is for CUDA 12.0, but
/// the assembler of that one ends with a fault of its own on kernels for Hopper.
const LEAST_DRIVER: i32 = 12_020;

/// Functions that are called; a driver that lacks one of them is of no use.
const FUNCTIONS: [&str; 35] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuTensorMapEncodeTiled",
    "cuLaunchKernel",
];

/// Names of the function that tells the time between two events, the newer one first: drivers before CUDA 12.8 lack it.
const ELAPSED: [&str; 2] = ["cuEventElapsedTime_v2", "cuEventElapsedTime"];
type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;

/// A device as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its number: `--device cuda:NUMBER`.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Compute capability: (9, 0) on Hopper.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: u64,
    /// Streaming multiprocessors.
    pub processors: u32,
    /// Most bytes of shared memory of a block.
    pub shared_memory: u32,
    /// The driver's CUDA version: (13, 0).
    pub driver: (u32, u32),
}

impl Description {
    /// The driver by the newest CUDA that it runs: "NVIDIA driver for CUDA 13.0".
    pub fn driver_told(&self) -> String {
        format!("NVIDIA driver for CUDA {}.{}", self.driver.0, self.driver.1)
    }

    /// Why the kernels do not run on it, if they do not.
    pub fn unusable(&self) -> Option<String> {
        let (major, minor) = self.capability;
        (major < 8)
            .then(|| format!("its compute capability {major}.{minor} is below 8.0, which the kernels need"))
    }

    /// The generations of PTX that the kernels are taken from on it, the newest first: "sm_80".
    pub fn generations(&self) -> Vec<String> {
        let mut chosen: Vec<&Ptx> = PTX.iter().filter_map(|ptx| choose(ptx.name, self.capability)).collect();
        chosen.sort_by_key(|ptx| std::cmp::Reverse((ptx.capability, ptx.only)));
        let mut names: Vec<String> = chosen
            .iter()
            .map(|ptx| format!("sm_{}{}", ptx.capability, if ptx.only { "a" } else { "" }))
            .collect();
        names.dedup();
        names
    }
}

/// The devices there are, or why there is none. Never panics.
pub fn list() -> Result<Vec<Description>, String> {
    static READY: OnceLock<Result<(u32, u32), String>> = OnceLock::new();
    let driver = READY.get_or_init(prepare).clone()?;
    let told = |error: CUresult| describe(error);
    let count = cudarc::driver::result::device::get_count().map_err(|e| told(e.0))?;
    (0..count).map(|i| description(i, driver).map_err(told)).collect()
}

/// Loads and initialises the driver; its CUDA version.
fn prepare() -> Result<(u32, u32), String> {
    // SAFETY: loading the driver's library runs its initialisers, which is what every CUDA program does.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver (libcuda)".into());
    }
    // SAFETY: only asks for addresses; the type is never called.
    let lacking = FUNCTIONS
        .iter()
        .find(|name| unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_err() });
    if let Some(name) = lacking {
        return Err(format!("the NVIDIA driver's library lacks {name}: it is too old or damaged"));
    }
    let mut version = 0;
    // SAFETY: the function is there, and the place it writes to is ours.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    if status != CUresult::CUDA_SUCCESS {
        return Err(describe(status));
    }
    if version < LEAST_DRIVER {
        return Err(format!(
            "the NVIDIA driver is for CUDA {}.{}; version 535 (CUDA 12.2) or later is needed",
            version / 1000,
            version % 1000 / 10
        ));
    }
    cudarc::driver::result::init().map_err(|e| match e.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => "the NVIDIA driver finds no GPU".into(),
        other => describe(other),
    })?;
    Ok((version as u32 / 1000, version as u32 % 1000 / 10))
}

fn description(index: i32, driver: (u32, u32)) -> Result<Description, CUresult> {
    use cudarc::driver::result::device;
    use sys::CUdevice_attribute as Attribute;
    let found = device::get(index).map_err(|e| e.0)?;
    // SAFETY: the device was just found.
    let attribute = |which| unsafe { device::get_attribute(found, which).map(|x| x as u32).map_err(|e| e.0) };
    Ok(Description {
        index: index as usize,
        name: device::get_name(found).map_err(|e| e.0)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory: unsafe { device::total_mem(found) }.map_err(|e| e.0)? as u64,
        processors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_memory: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        driver,
    })
}

/// "CUDA_ERROR_OUT_OF_MEMORY (out of memory)".
pub(super) fn describe(error: CUresult) -> String {
    let text = |f: unsafe fn(CUresult, *mut *const std::ffi::c_char) -> CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: the driver sets the pointer to a string of its own, or leaves it null.
        unsafe {
            f(error, &mut text);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    let name = text(sys::cuGetErrorName).unwrap_or_else(|| format!("error {}", error as u32));
    text(sys::cuGetErrorString).map_or(name.clone(), |why| format!("{name} ({why})"))
}

/// Version of the driver's part in the system's kernel ("580.65.06"), which is also that of its library; none where the system does
/// not tell, as Linux alone does.
pub fn version() -> Option<&'static str> {
    static VERSION: LazyLock<Option<String>> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/driver/nvidia/version").ok().and_then(|text| version_in(&text))
    });
    VERSION.as_deref()
}

/// The first word of numbers between points in the first line.
fn version_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        let numbers: Vec<&str> = word.split('.').collect();
        numbers.len() > 1
            && numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_string)
}

impl Description {
    /// The driver in words: "driver 580.65.06 for CUDA 13.0", without its version where the system does not tell it.
    pub fn driver_name(&self) -> String {
        let version = version().map_or(String::new(), |version| format!("{version} "));
        format!("driver {version}for CUDA {}.{}", self.driver.0, self.driver.1)
    }
}

/// Milliseconds from one event to another.
///
/// # Safety
/// Both are events of the current context that were recorded.
pub(super) unsafe fn elapsed(milliseconds: &mut f32, from: sys::CUevent, to: sys::CUevent) -> CUresult {
    static FUNCTION: LazyLock<Option<Elapsed>> = LazyLock::new(|| {
        // SAFETY: both functions have this type.
        ELAPSED.iter().find_map(|name| unsafe {
            sys::culib().get::<Elapsed>(name.as_bytes()).ok().map(|function| *function)
        })
    });
    // SAFETY: the events are as the caller says, and the place is there.
    FUNCTION.map_or(CUresult::CUDA_ERROR_NOT_FOUND, |function| unsafe { function(milliseconds, from, to) })
}

/// The same while a device is being opened, of which nothing is lost yet: it may be another process's own, or be out of order.
pub(super) fn check_open(device: &str, status: CUresult) -> Result<()> {
    check(&device, status).map_err(|error| match error {
        Error::DeviceLost { .. } => Error::setting(
            format!("{device} cannot be opened: {}", describe(status)),
            "see with nvidia-smi whether another process has it for itself (compute mode), choose another --device, or try again",
        ),
        other => other,
    })
}

/// A driver's answer as a result in the name of `device`.
pub(super) fn check(device: &impl std::fmt::Display, status: CUresult) -> Result<()> {
    use CUresult as C;
    let device = || device.to_string();
    match status {
        C::CUDA_SUCCESS => Ok(()),
        C::CUDA_ERROR_OUT_OF_MEMORY => Err(Error::DeviceMemory {
            device: device(),
            problem: "the driver has no more".into(),
            needed: None,
            limit: None,
            remedy: REMEDY.into(),
        }),
        C::CUDA_ERROR_INVALID_VALUE
        | C::CUDA_ERROR_INVALID_PTX
        | C::CUDA_ERROR_INVALID_IMAGE
        | C::CUDA_ERROR_NOT_FOUND
        | C::CUDA_ERROR_NO_BINARY_FOR_GPU
        | C::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | C::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => {
            Err(Error::DeviceRefused { device: device(), why: describe(status) })
        }
        // After anything else the context is lost: the driver answers every later call with the same error.
        _ => Err(Error::device_lost(device(), describe(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_version_is_found_in_both_of_its_forms() {
        for (line, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
                "535.104.05",
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
                "580.65.06",
            ),
        ] {
            assert_eq!(version_in(&format!("{line}\nGCC version:  gcc 12.2.0")).as_deref(), Some(version));
        }
        assert_eq!(version_in("no driver\nGCC version: gcc 12.2.0"), None);
        assert_eq!(version_in(""), None);
    }
}
