//! An opened CUDA device: its context, its one stream, its pool of memory, and the kernels loaded so far.

use super::cublaslt::CublasLt;
use super::driver::{self, Description};
use super::frozen::forced_frozen_type;
use super::launch::Modules;
use super::memory::{self, Memory};
use super::staging::Staging;
use super::trace::Trace;
use crate::device::pool::Pool;
use crate::device::{DType, FrozenType};
use crate::{Error, Result};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUresult, CUstream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// An opened CUDA device. Cheap to clone; clones are the same device.
///
/// Everything goes into one stream, in the order of the calls; the host waits only where it reads.
#[derive(Clone)]
pub struct Cuda(pub(super) Arc<Context>);

pub(super) struct Context {
    pub description: Description,
    device: CUdevice,
    context: CUcontext,
    pub stream: CUstream,
    /// Whether memory is given out in exact sizes and never reused, so that a tool sees each access beyond an end.
    pub exact: bool,
    /// In what it stores frozen weights, where that differs from what the process was told.
    frozen: Option<FrozenType>,
    pool: Mutex<Pool<Memory>>,
    pub staging: Mutex<Staging>,
    pub modules: Mutex<Modules>,
    pub launches: AtomicU64,
    pub trace: Trace,
    pub read_backs: AtomicU64,
    /// NVIDIA's products, where they were chosen.
    pub cublaslt: Mutex<Option<CublasLt>>,
}

// SAFETY: the driver's handles may be used from any thread in whose context they are; every call sets it.
unsafe impl Send for Context {}
// SAFETY: as above, and the driver locks its own state.
unsafe impl Sync for Context {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({self})")
    }
}

impl std::fmt::Display for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cuda:{}", self.0.description.index)
    }
}

impl PartialEq for Cuda {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Cuda {}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Cuda {
    /// Opens a device of [`driver::list`]. With `exact`, memory has exact sizes and is never reused: for tests. Frozen weights
    /// are stored in `frozen`, else as [`super::force_frozen_type`] says.
    pub fn open(description: Description, exact: bool, frozen: Option<FrozenType>) -> Result<Self> {
        let place = format!("cuda:{}", description.index);
        let (mut device, mut context, mut stream) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the driver was initialised by whoever listed the device; each call's places are ours.
        unsafe {
            driver::check_open(&place, sys::cuDeviceGet(&mut device, description.index as i32))?;
            driver::check_open(&place, sys::cuDevicePrimaryCtxRetain(&mut context, device))?;
            driver::check_open(&place, sys::cuCtxSetCurrent(context))?;
            let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            driver::check_open(&place, sys::cuStreamCreate(&mut stream, flags))?;
        }
        Ok(Cuda(Arc::new(Context {
            description,
            device,
            context,
            stream,
            exact,
            frozen,
            pool: Mutex::default(),
            staging: Mutex::default(),
            modules: Mutex::default(),
            launches: AtomicU64::new(0),
            trace: Trace::default(),
            read_backs: AtomicU64::new(0),
            cublaslt: Mutex::default(),
        })))
    }

    /// What is known of the device.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// What the bits of its results depend on: the GPU, and the driver that compiles the kernels for it.
    pub fn arithmetic(&self) -> String {
        let Description { name, capability: (major, minor), .. } = &self.0.description;
        let driver = self.0.description.driver_name();
        let frozen = self.frozen_type();
        let gemm = self.gemm_name();
        format!("cuda {name} sm_{major}{minor} {frozen}{gemm}, {driver}")
    }

    /// The type in which it stores frozen weights of products that tensor cores take.
    pub fn frozen_type(&self) -> DType {
        self.0.frozen.unwrap_or_else(forced_frozen_type).dtype()
    }

    /// Runs one of the driver's calls in this device's context.
    pub(super) fn call(&self, f: impl FnOnce(CUstream) -> CUresult) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        driver::check(self, unsafe { sys::cuCtxSetCurrent(self.0.context) })?;
        driver::check(self, f(self.0.stream))
    }

    /// Times that the host waited for results.
    pub fn read_backs(&self) -> u64 {
        self.0.read_backs.load(Ordering::Relaxed)
    }

    /// Waits until everything asked of it is done.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream lives as long as `self`.
        self.call(|stream| unsafe { sys::cuStreamSynchronize(stream) })
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool<Memory>> {
        lock(&self.0.pool)
    }

    pub(super) fn modules(&self) -> MutexGuard<'_, Modules> {
        lock(&self.0.modules)
    }

    /// An error for types that no kernel computes in.
    pub(super) fn expect_type(&self, dtype: DType) -> Result<()> {
        match dtype {
            DType::F32 | DType::U32 | DType::BF16 => Ok(()),
            DType::F64 | DType::F16 => {
                Err(Error::Unsupported { op: "tensor", device: self.to_string(), detail: dtype.to_string() })
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let pool = self.pool.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let staging = self.staging.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let modules = self.modules.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: nobody else has the device any more; what a dying driver answers changes nothing.
        unsafe {
            sys::cuCtxSetCurrent(self.context);
            sys::cuStreamSynchronize(self.stream);
            drop(self.cublaslt.get_mut().map(Option::take));
            memory::empty(pool);
            staging.empty();
            modules.unload();
            sys::cuStreamDestroy_v2(self.stream);
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}
