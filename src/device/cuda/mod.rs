//! NVIDIA GPUs through the CUDA driver, which is all that must be installed: kernels are shipped as PTX.
//!
//! Kernels are the CUDA C++ files under `kernels/`, one op a file; the file of the same name here gives an op's launch its
//! parameters and grid.

mod buffer;
mod column_sums;
mod context;
mod driver;
mod launch;
pub mod rms_norm;
pub mod sum_rows;

pub use buffer::{Buffer, View, ViewMut};
pub use context::{Cuda, open};
pub use driver::{Description, list};
pub use launch::{Arg, Launch, PTX, Ptx, blocks};
