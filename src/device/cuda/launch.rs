//! Kernels: the PTX that `build.rs` embeds, loaded when first launched.

use super::buffer::{View, ViewMut};
use super::context::Cuda;
use super::tensor_map::TensorMap;
use crate::{Error, Result};
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute as Attribute, CUmodule};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::sync::atomic::Ordering;

/// PTX of one file under `kernels/`.
#[derive(Debug)]
pub struct Ptx {
    /// The file's name without its ending: its op's.
    pub name: &'static str,
    /// Least compute capability it runs on: 80 is 8.0.
    pub capability: u32,
    /// Whether it runs on that compute capability alone (PTX for `sm_90a`).
    pub only: bool,
    /// Its text.
    pub text: &'static str,
    /// SHA-256 of the sources it was made from, as its first line tells; those of today are in `source`.
    pub made_from: &'static str,
    /// SHA-256 of its file and the headers, when this program was built.
    pub source: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// Shared memory that a block may have without asking.
const PLAIN_SHARED: u32 = 48 << 10;

/// One launch of a kernel.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The file under `kernels/` without its ending.
    pub file: &'static str,
    /// The kernel in it: its stable name, `lea_…`.
    pub kernel: &'static str,
    /// Blocks in each direction.
    pub grid: [usize; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// The kernel's parameters in order.
    pub args: &'a [Arg<'a>],
}

/// A parameter of a kernel. An extent (`usize`) is a `size_t` there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg<'a> {
    /// A pointer or a `size_t`.
    Long(u64),
    /// An `unsigned`, or a `float` by its bits.
    Word(u32),
    /// A tensor as the copy engine sees it.
    Map(TensorMap),
    /// A struct of 8-byte words.
    Table(&'a [u64]),
}

impl From<View<'_>> for Arg<'_> {
    fn from(view: View) -> Self {
        Arg::Long(view.address())
    }
}

impl From<&ViewMut<'_>> for Arg<'_> {
    fn from(view: &ViewMut) -> Self {
        Arg::Long(view.0.address())
    }
}

impl From<usize> for Arg<'_> {
    fn from(extent: usize) -> Self {
        Arg::Long(extent as u64)
    }
}

impl From<u32> for Arg<'_> {
    fn from(word: u32) -> Self {
        Arg::Word(word)
    }
}

impl From<TensorMap> for Arg<'_> {
    fn from(map: TensorMap) -> Self {
        Arg::Map(map)
    }
}

impl From<f32> for Arg<'_> {
    fn from(value: f32) -> Self {
        Arg::Word(value.to_bits())
    }
}

#[derive(Clone, Copy)]
struct Function {
    handle: CUfunction,
    /// Dynamic shared memory that it may have.
    shared: u32,
}

/// Modules and kernels loaded so far.
#[derive(Default)]
pub(super) struct Modules {
    by_file: HashMap<&'static str, CUmodule>,
    by_kernel: HashMap<&'static str, Function>,
}

// SAFETY: the driver's handles may be used from any thread in whose context they are; every call sets it.
unsafe impl Send for Modules {}

impl Modules {
    /// Gives the modules back; no kernel may run any more.
    pub(super) fn unload(&mut self) {
        self.by_kernel.clear();
        for (_, module) in self.by_file.drain() {
            // SAFETY: loaded by this device, and used no more.
            unsafe { sys::cuModuleUnload(module) };
        }
    }

    fn kernel(&mut self, cuda: &Cuda, launch: &Launch) -> Result<&mut Function> {
        let module = match self.by_file.entry(launch.file) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(place) => *place.insert(load(cuda, launch.file)?),
        };
        match self.by_kernel.entry(launch.kernel) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(place) => {
                let name = CString::new(launch.kernel).expect("names of kernels hold no zero byte");
                let mut handle = std::ptr::null_mut();
                // SAFETY: the place is ours, the name ends with a zero byte.
                cuda.call(|_| unsafe { sys::cuModuleGetFunction(&mut handle, module, name.as_ptr()) })?;
                Ok(place.insert(Function { handle, shared: PLAIN_SHARED }))
            }
        }
    }
}

/// The best PTX of `file` for a compute capability.
pub(super) fn choose(file: &str, (major, minor): (u32, u32)) -> Option<&'static Ptx> {
    let capability = 10 * major + minor;
    let runs = |ptx: &&Ptx| {
        ptx.name == file && if ptx.only { ptx.capability == capability } else { ptx.capability <= capability }
    };
    PTX.iter().filter(runs).max_by_key(|ptx| (ptx.capability, ptx.only))
}

fn load(cuda: &Cuda, file: &'static str) -> Result<CUmodule> {
    let capability = cuda.description().capability;
    let Some(ptx) = choose(file, capability) else {
        let why = format!("{file} has no kernels for compute capability {}.{}", capability.0, capability.1);
        return Err(Error::DeviceRefused { device: cuda.to_string(), why });
    };
    let text = CString::new(ptx.text).expect("PTX holds no zero byte");
    let mut module = std::ptr::null_mut();
    // What the driver's compiler has to say about a text that it refuses.
    let mut log = vec![0u8; 4096];
    let (mut options, mut values) = (
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES],
        [log.as_mut_ptr().cast::<std::ffi::c_void>(), log.len() as *mut std::ffi::c_void],
    );
    // SAFETY: the text ends with a zero byte, and the log's place and size are as the options say.
    let answer = cuda.call(|_| unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            text.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    });
    answer.map_err(|error| match error {
        Error::DeviceRefused { device, why } => {
            let log =
                String::from_utf8_lossy(&log[..log.iter().position(|&b| b == 0).unwrap_or(0)]).into_owned();
            Error::DeviceRefused { device, why: format!("kernels of {file}: {why} {log}") }
        }
        other => other,
    })?;
    Ok(module)
}

impl Cuda {
    /// Launches a kernel. One with an empty grid does nothing.
    pub fn launch(&self, launch: &Launch) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let [x, y, z] = launch.grid;
        if x > i32::MAX as usize || y > 65_535 || z > 65_535 {
            let problem = format!("a grid of {:?} blocks is more than {self} takes", launch.grid);
            return Err(Error::shape(launch.file, problem));
        }
        let shared = self.description().shared_memory;
        if launch.shared > shared {
            let problem = format!(
                "{} needs {} bytes of shared memory a block and {self} has {shared}: wide heads need an A100, an H100 or a \
                 later one of their kind; run it on another --device",
                launch.kernel, launch.shared
            );
            return Err(Error::shape(launch.file, problem));
        }
        let mut words: Vec<u64> = launch
            .args
            .iter()
            .map(|arg| match *arg {
                Arg::Long(value) => value,
                // The first four bytes of the slot, which is all that the driver reads.
                Arg::Word(value) => u64::from_ne_bytes(bytemuck::cast([value, 0])),
                // Are taken from where they stand.
                Arg::Map(_) | Arg::Table(_) => 0,
            })
            .collect();
        let place = |(arg, word): (&Arg, &mut u64)| match arg {
            Arg::Map(map) => std::ptr::from_ref(&map.0).cast_mut().cast(),
            Arg::Table(words) => words.as_ptr().cast_mut().cast(),
            _ => std::ptr::from_mut(word).cast(),
        };
        let mut args: Vec<*mut std::ffi::c_void> = launch.args.iter().zip(&mut words).map(place).collect();
        let mut modules = self.modules();
        let function = modules.kernel(self, launch)?;
        if launch.shared > function.shared {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let handle = function.handle;
            // SAFETY: the kernel was loaded by this device.
            self.call(|_| unsafe { sys::cuFuncSetAttribute(handle, attribute, launch.shared as i32) })?;
            function.shared = launch.shared;
        }
        let handle = function.handle;
        // SAFETY: the parameters are as many and as wide as the kernel's; tests compare them with those in the PTX. Kernels
        // stay inside the shapes that the ops have checked.
        let asked = |stream| unsafe {
            sys::cuLaunchKernel(
                handle,
                x as u32,
                y as u32,
                z as u32,
                launch.threads,
                1,
                1,
                launch.shared,
                stream,
                args.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.timed(launch.kernel, || self.call(asked)).map_err(|error| match error {
            Error::DeviceRefused { device, why } => {
                Error::DeviceRefused { device, why: format!("{}: {why}", launch.kernel) }
            }
            other => other,
        })?;
        self.0.launches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
