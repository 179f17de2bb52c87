//! Products with a factor stored in bf16 by NVIDIA's cuBLASLt, in place of `kernels/matmul_bf16*.cu`: the baseline to which those
//! are compared. Not needed, and looked for only where it is asked for.
//!
//! Which of its kernels runs depends on the number of rows, so a row's bits may depend on the pack that it stands in.

use super::context::lock;
use super::matmul::{Epilogue, Matrix};
use super::matmul_bf16::Factors;
use super::{Buffer, Cuda, View, ViewMut, swiglu};
use crate::device::DType;
use crate::{Error, Result};
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUresult;
use std::collections::HashMap;
use std::ffi::c_void;
use std::str::FromStr;
use std::sync::Mutex;

/// Bytes that its kernels may use beside the operands: what it recommends for Hopper.
static WORKSPACE: usize = 32 << 20;

/// CUBLAS_OP_T, which cudarc's part for cuBLASLt does not name.
static TRANSPOSE: u32 = 1;

/// Functions that are called; cudarc panics where one is absent.
const FUNCTIONS: [&str; 13] = [
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
    "cublasLtGetVersion",
];

/// Whose products of a factor stored in bf16 a CUDA device uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gemm {
    /// The kernels of this library.
    #[default]
    Lea,
    /// NVIDIA's cuBLASLt, which must be installed.
    CublasLt,
}

impl FromStr for Gemm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "lea" => Ok(Gemm::Lea),
            "cublaslt" => Ok(Gemm::CublasLt),
            _ => Err(Error::setting(format!("unknown products {name:?}"), "name lea or cublaslt")),
        }
    }
}

/// What a choice of algorithm depends on: extents, whether b is stored transposed, bias, whether something is added, whether c is in bf16.
type Key = ([usize; 3], bool, bool, bool, bool);

/// The library, opened on a device.
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    algorithms: Mutex<HashMap<Key, sys::cublasLtMatmulAlgo_t>>,
}

// SAFETY: a handle may be used from any thread in whose context it was made; every call sets that.
unsafe impl Send for CublasLt {}

impl CublasLt {
    fn open(cuda: &Cuda) -> Result<Self> {
        let absent = |problem: String| {
            let remedy = "install cuBLAS of CUDA 13 where the loader finds it, or leave --gemm out";
            Error::setting(format!("--gemm cublaslt: {problem}"), remedy)
        };
        // SAFETY: loading the library runs its initialisers, which is what the user asked for.
        if !unsafe { sys::is_culib_present() } {
            return Err(absent("there is no libcublasLt".into()));
        }
        // SAFETY: only asks for addresses; the type is never called.
        let lacks =
            |name: &&&str| unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_err() };
        if let Some(name) = FUNCTIONS.iter().find(lacks) {
            return Err(absent(format!("libcublasLt lacks {name}")));
        }
        enter(cuda)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the place is ours.
        check(cuda, unsafe { sys::cublasLtCreate(&mut handle) })?;
        Ok(CublasLt { handle, algorithms: Mutex::default() })
    }

    /// Its version, as it tells it: 130001.
    fn version() -> usize {
        // SAFETY: takes nothing, changes nothing.
        unsafe { sys::cublasLtGetVersion() }
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        // SAFETY: made by the library, and nobody else has it; the device's context is still there.
        unsafe { sys::cublasLtDestroy(self.handle) };
    }
}

/// Makes the device's context the thread's.
fn enter(cuda: &Cuda) -> Result<()> {
    cuda.call(|_| CUresult::CUDA_SUCCESS)
}

fn check(cuda: &Cuda, status: sys::cublasStatus_t) -> Result<()> {
    use sys::cublasStatus_t as S;
    let (device, why) = (cuda.to_string(), format!("cuBLASLt: {status:?}"));
    match status {
        S::CUBLAS_STATUS_SUCCESS => Ok(()),
        S::CUBLAS_STATUS_EXECUTION_FAILED
        | S::CUBLAS_STATUS_INTERNAL_ERROR
        | S::CUBLAS_STATUS_MAPPING_ERROR => Err(Error::device_lost(device, why)),
        _ => Err(Error::DeviceRefused { device, why }),
    }
}

/// A description that the library made, destroyed where it is dropped.
struct Made<T: Copy>(T, unsafe fn(T) -> sys::cublasStatus_t);

impl<T: Copy> Drop for Made<T> {
    fn drop(&mut self) {
        // SAFETY: made by the library, and dropped once.
        unsafe { (self.1)(self.0) };
    }
}

impl Cuda {
    /// Chooses whose products of a factor stored in bf16 are used.
    ///
    /// # Errors
    /// cuBLASLt is not installed, or too old.
    pub fn set_gemm(&self, gemm: Gemm) -> Result<()> {
        let library = match gemm {
            Gemm::Lea => None,
            Gemm::CublasLt => Some(CublasLt::open(self)?),
        };
        *lock(&self.0.cublaslt) = library;
        Ok(())
    }

    /// What the choice adds to [`Cuda::arithmetic`].
    pub(super) fn gemm_name(&self) -> String {
        match *lock(&self.0.cublaslt) {
            None => String::new(),
            Some(_) => format!(", cuBLASLt {}", CublasLt::version()),
        }
    }
}

/// Whether the device was told to use cuBLASLt.
pub(super) fn is_used(cuda: &Cuda) -> bool {
    lock(&cuda.0.cublaslt).is_some()
}

/// c = a·b plus the epilogue, if the device was told to use cuBLASLt; false where nothing was done, because it was not, or because the
/// epilogue adds two matrices, or something to a c in bf16.
pub(super) fn matmul(
    factors: &Factors,
    c: &ViewMut,
    extents: [usize; 3],
    epilogue: &Epilogue,
) -> Result<bool> {
    let cuda = c.cuda();
    let library = lock(&cuda.0.cublaslt);
    let both = epilogue.accumulate && epilogue.residual.is_some();
    // What it adds has the type of c.
    let refused = both || (c.dtype() == DType::BF16 && epilogue.residual.or(epilogue.bias).is_some());
    match &*library {
        Some(library) if !refused && !extents.contains(&0) => {
            enter(cuda)?;
            let product = |factors: &Factors, c: &ViewMut, extents, epilogue: &Epilogue| {
                cuda.timed("cublaslt_matmul", || product(library, factors, c, extents, epilogue))
            };
            let timed = |c: &ViewMut| product(factors, c, extents, epilogue);
            if let Some(pair) = epilogue.pair {
                timed(c)?;
                let b = Matrix { data: pair.b, transposed: factors.b.transposed };
                let second = Factors { a: pair.a, padded: pair.depth, b };
                let added = Epilogue { accumulate: true, ..Epilogue::default() };
                return product(&second, c, [extents[0], extents[1], pair.depth], &added).map(|()| true);
            }
            let Some(gate) = epilogue.gate else { return timed(c).map(|()| true) };
            // It knows no gate.
            let up = Buffer::scratch(cuda, DType::F32, c.len())?;
            timed(&up.view_mut(0, c.len()))?;
            swiglu::forward(gate, up.view(0, c.len()), c.part(0, c.len()))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The library has columns where we have rows: it computes cᵀ `[n, m]` = bᵀ·aᵀ, which needs no transposing.
fn product(
    library: &CublasLt,
    factors: &Factors,
    c: &ViewMut,
    [m, n, k]: [usize; 3],
    epilogue: &Epilogue,
) -> Result<()> {
    use sys::cublasLtMatmulDescAttributes_t as Attribute;
    let cuda = c.cuda();
    let description = describe(cuda)?;
    let set = |attribute, value: *const c_void, bytes| {
        // SAFETY: the description lives, and the value is as long as told.
        check(cuda, unsafe { sys::cublasLtMatmulDescSetAttribute(description.0, attribute, value, bytes) })
    };
    if factors.b.transposed {
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, (&raw const TRANSPOSE).cast(), size_of_val(&TRANSPOSE))?;
    }
    if let Some(bias) = &epilogue.bias {
        let (adds, address) = (sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS, bias.address());
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const adds).cast(), size_of_val(&adds))?;
        set(
            Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER,
            (&raw const address).cast(),
            size_of_val(&address),
        )?;
    }
    let half = sys::cudaDataType::CUDA_R_16BF;
    let left = match factors.b.transposed {
        true => layout(cuda, half, [k, n], k)?,
        false => layout(cuda, half, [n, k], n)?,
    };
    let right = layout(cuda, half, [k, m], factors.padded)?;
    let halves = c.dtype() == DType::BF16;
    let out = if halves { half } else { sys::cudaDataType::CUDA_R_32F };
    let out = layout(cuda, out, [n, m], n)?;
    let added = epilogue.residual.as_ref().map(View::address).or(epilogue.accumulate.then(|| c.0.address()));
    let key = ([m, n, k], factors.b.transposed, epilogue.bias.is_some(), added.is_some(), halves);
    let known = lock(&library.algorithms).get(&key).copied();
    let algorithm = match known {
        Some(algorithm) => algorithm,
        None => {
            let found = choose(cuda, library, &description, [&left, &right, &out])?;
            lock(&library.algorithms).insert(key, found);
            found
        }
    };
    let workspace = Buffer::scratch(cuda, DType::F32, WORKSPACE / DType::F32.size())?;
    let (one, factor) = (1f32, if added.is_some() { 1f32 } else { 0.0 });
    let at = |address: u64| address as *const c_void;
    // SAFETY: the ops have checked that the operands are as large as the layouts say; descriptions and layouts live.
    let status = unsafe {
        sys::cublasLtMatmul(
            library.handle,
            description.0,
            (&raw const one).cast(),
            at(factors.b.data.address()),
            left.0,
            at(factors.a.address()),
            right.0,
            (&raw const factor).cast(),
            at(added.unwrap_or(c.0.address())),
            out.0,
            at(c.0.address()).cast_mut(),
            out.0,
            &algorithm,
            at(workspace.view(0, workspace.len()).address()).cast_mut(),
            WORKSPACE,
            cuda.0.stream.cast(),
        )
    };
    check(cuda, status)
}

fn describe(cuda: &Cuda) -> Result<Made<sys::cublasLtMatmulDesc_t>> {
    let (compute, scale) = (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F);
    let mut made = std::ptr::null_mut();
    // SAFETY: the place is ours.
    check(cuda, unsafe { sys::cublasLtMatmulDescCreate(&mut made, compute, scale) })?;
    Ok(Made(made, sys::cublasLtMatmulDescDestroy))
}

/// Columns of `rows` elements, each `stride` elements after the one before it.
fn layout(
    cuda: &Cuda,
    dtype: sys::cudaDataType,
    [rows, columns]: [usize; 2],
    stride: usize,
) -> Result<Made<sys::cublasLtMatrixLayout_t>> {
    let mut made = std::ptr::null_mut();
    let (rows, columns) = (rows as u64, columns as u64);
    // SAFETY: the place is ours.
    check(cuda, unsafe { sys::cublasLtMatrixLayoutCreate(&mut made, dtype, rows, columns, stride as i64) })?;
    Ok(Made(made, sys::cublasLtMatrixLayoutDestroy))
}

/// The algorithm that the library thinks the fastest.
fn choose(
    cuda: &Cuda,
    library: &CublasLt,
    description: &Made<sys::cublasLtMatmulDesc_t>,
    [left, right, out]: [&Made<sys::cublasLtMatrixLayout_t>; 3],
) -> Result<sys::cublasLtMatmulAlgo_t> {
    let mut made = std::ptr::null_mut();
    // SAFETY: the place is ours.
    check(cuda, unsafe { sys::cublasLtMatmulPreferenceCreate(&mut made) })?;
    let preference = Made(made, sys::cublasLtMatmulPreferenceDestroy);
    let most = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    let mut found = std::mem::MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed();
    let mut count = 0;
    // SAFETY: all descriptions live, there is room for one result, and one is asked for.
    let status = unsafe {
        let bytes = (&raw const WORKSPACE).cast();
        check(
            cuda,
            sys::cublasLtMatmulPreferenceSetAttribute(preference.0, most, bytes, size_of::<usize>()),
        )?;
        sys::cublasLtMatmulAlgoGetHeuristic(
            library.handle,
            description.0,
            left.0,
            right.0,
            out.0,
            out.0,
            preference.0,
            1,
            found.as_mut_ptr(),
            &mut count,
        )
    };
    check(cuda, status)?;
    if count == 0 {
        let why = "cuBLASLt has no kernel for a product of these extents".into();
        return Err(Error::DeviceRefused { device: cuda.to_string(), why });
    }
    // SAFETY: the library wrote one result; its state is a status, 0 in what it left as it was.
    let found = unsafe { found.assume_init() };
    check(cuda, found.state)?;
    Ok(found.algo)
}
