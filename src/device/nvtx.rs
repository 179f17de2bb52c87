//! Ranges for NVIDIA's tools (NVTX 3): stages, layers and ops stand in their timelines under the names of
//! [`profile`](super::profile).
//!
//! A tool puts a library of its own into the program that it starts, named by `NVTX_INJECTION64_PATH`. It is given tables of places
//! for functions and writes its own into those that it wants. So neither a toolkit nor a library of NVIDIA's is linked or looked for,
//! and without a tool a range costs one look at a flag.
//!
//! The protocol is that of NVTX's headers (nvtx3/nvtxDetail/nvtxTypes.h, version 3), of which the calls without a domain are used.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::OnceLock;

/// Names the tool's library, as tools set it on 64-bit machines.
const LIBRARY: &str = "NVTX_INJECTION64_PATH";
/// Tables that a tool may ask for.
const CALLBACKS: u32 = 1;
const VERSION_INFO: u32 = 3;
/// The version that is told to it.
const VERSION: u32 = 3;
/// Modules of functions, by their number, and how many functions each has; 0 is no module.
const MODULES: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
/// The module of calls without a domain, and its functions that are called here.
const CORE: usize = 1;
const RANGE_PUSH: usize = 9;
const RANGE_POP: usize = 11;
/// Places of a module at most.
const PLACES: usize = 16;

/// A place for the address of a function, null until the tool writes one.
struct Place(UnsafeCell<*const c_void>);

// SAFETY: written by the tool while it is initialised, which is before anything else reads it, and only read afterwards.
unsafe impl Sync for Place {}

static FUNCTIONS: [[Place; PLACES]; MODULES.len()] =
    [const { [const { Place(UnsafeCell::new(std::ptr::null())) }; PLACES] }; MODULES.len()];

/// The addresses of the places, as a tool is given them.
struct Tables([[*mut *const c_void; PLACES]; MODULES.len()]);

// SAFETY: addresses of a static, never changed.
unsafe impl Sync for Tables {}
unsafe impl Send for Tables {}

#[repr(C)]
struct Callbacks {
    size: usize,
    function_table: extern "C" fn(c_uint, *mut *const *mut *const c_void, *mut c_uint) -> c_int,
}

#[repr(C)]
struct VersionInfo {
    size: usize,
    version: u32,
    reserved: u32,
    set_injection_version: extern "C" fn(u32),
}

static CALLBACK_TABLE: Callbacks = Callbacks { size: size_of::<Callbacks>(), function_table };
static VERSION_TABLE: VersionInfo = VersionInfo {
    size: size_of::<VersionInfo>(),
    version: VERSION,
    reserved: 0,
    set_injection_version: ignore,
};

extern "C" fn ignore(_version: u32) {}

extern "C" fn export_table(which: u32) -> *const c_void {
    match which {
        CALLBACKS => (&raw const CALLBACK_TABLE).cast(),
        VERSION_INFO => (&raw const VERSION_TABLE).cast(),
        _ => std::ptr::null(),
    }
}

/// Tells the places of a module's functions; 0 where there is no such module.
extern "C" fn function_table(
    module: c_uint,
    table: *mut *const *mut *const c_void,
    count: *mut c_uint,
) -> c_int {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    let tables = TABLES
        .get_or_init(|| Tables(FUNCTIONS.each_ref().map(|of| of.each_ref().map(|place| place.0.get()))));
    let module = module as usize;
    if module == 0 || module >= MODULES.len() {
        return 0;
    }
    // SAFETY: both are null or places of the tool's.
    unsafe {
        if !table.is_null() {
            *table = tables.0[module].as_ptr();
        }
        if !count.is_null() {
            *count = MODULES[module] as c_uint;
        }
    }
    1
}

/// What the tool wants to be called.
struct Attached {
    push: extern "C" fn(*const c_char) -> c_int,
    pop: extern "C" fn() -> c_int,
}

fn attached() -> Option<&'static Attached> {
    static ATTACHED: OnceLock<Option<Attached>> = OnceLock::new();
    ATTACHED.get_or_init(|| attach(Path::new(&std::env::var_os(LIBRARY)?))).as_ref()
}

/// Loads a tool's library and hands it the tables. `None` where it cannot be loaded, wants no ranges or fails: a profile without
/// ranges is better than no run.
fn attach(library: &Path) -> Option<Attached> {
    type Initialise = unsafe extern "C" fn(extern "C" fn(u32) -> *const c_void) -> c_int;
    // SAFETY: whoever set the variable wants the library's code to run here. It stays loaded to the end.
    unsafe {
        let library = std::mem::ManuallyDrop::new(libloading::Library::new(library).ok()?);
        let initialise = library.get::<Initialise>(b"InitializeInjectionNvtx2").ok()?;
        if initialise(export_table) == 0 {
            return None;
        }
        let [push, pop] = [RANGE_PUSH, RANGE_POP].map(|function| *FUNCTIONS[CORE][function].0.get());
        if push.is_null() || pop.is_null() {
            return None;
        }
        // SAFETY: the tool put functions of these types there.
        Some(Attached {
            push: std::mem::transmute::<*const c_void, extern "C" fn(*const c_char) -> c_int>(push),
            pop: std::mem::transmute::<*const c_void, extern "C" fn() -> c_int>(pop),
        })
    }
}

/// A range of this thread until it is dropped; ranges end in the reverse order of their beginnings.
pub(super) struct NvtxRange(&'static Attached);

impl NvtxRange {
    /// Begins one, if a tool listens.
    pub fn begin(name: impl FnOnce() -> String) -> Option<Self> {
        let attached = attached()?;
        // Names have no zero byte; one that had would be cut there.
        let name = CString::new(name()).unwrap_or_default();
        (attached.push)(name.as_ptr());
        Some(NvtxRange(attached))
    }
}

impl Drop for NvtxRange {
    fn drop(&mut self) {
        (self.0.pop)();
    }
}
