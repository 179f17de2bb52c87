//! Tensors as Hopper's copy engine (TMA) sees them: kernels take such a map as a parameter, see `kernels/common/hopper.cuh`.

use super::View;
use crate::device::DType;
use crate::{Error, Result};
use cudarc::driver::sys::{self, CUtensorMap};

/// Elements in a row of a box: 128 bytes, over which a slice in shared memory is swizzled.
pub const BOX_COLUMNS: usize = 64;
/// Most rows of a box.
const MOST_ROWS: usize = 256;

/// A matrix in bf16 and the box of it that one copy brings. Of the memory that it was made for, alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorMap(pub(super) CUtensorMap);

/// Whether the copy engine takes bf16 rows of so many elements: it has no tensors without elements, strides of a multiple of 16 bytes,
/// and its kernels count places in `int`.
pub fn takes(rows: usize, columns: usize) -> bool {
    let most = i32::MAX as usize - MOST_ROWS;
    (1..=most).contains(&rows)
        && (1..=most).contains(&columns)
        && columns.is_multiple_of(16 / DType::BF16.size())
}

impl TensorMap {
    /// Of a bf16 matrix `[rows, columns]` that [`takes`] takes, at a multiple of 16 bytes: boxes of `box_rows` rows (up to 256) of
    /// [`BOX_COLUMNS`] elements, swizzled over 128 bytes, zeros where the matrix does not reach.
    pub fn of_rows(matrix: View, [rows, columns]: [usize; 2], box_rows: usize) -> Result<Self> {
        assert!(
            takes(rows, columns) && box_rows <= MOST_ROWS,
            "boxes of {box_rows} rows of [{rows}, {columns}]"
        );
        assert!(matrix.dtype() == DType::BF16 && matrix.len() == rows * columns, "{matrix:?}");
        let mut map = CUtensorMap { opaque: [0; 16] };
        let cuda = matrix.cuda();
        let made = cuda.call(|_| {
            // SAFETY: the map is at a multiple of 64 bytes as its type says, and each list has as many numbers as two directions need.
            unsafe {
                sys::cuTensorMapEncodeTiled(
                    &mut map,
                    sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                    2,
                    matrix.address() as *mut std::ffi::c_void,
                    [columns as u64, rows as u64].as_ptr(),
                    [(columns * DType::BF16.size()) as u64].as_ptr(),
                    [BOX_COLUMNS as u32, box_rows as u32].as_ptr(),
                    [1, 1].as_ptr(),
                    sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                    sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                    sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                    sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
                )
            }
        });
        made.map(|()| TensorMap(map)).map_err(|error| match error {
            Error::DeviceRefused { device, why } => {
                let why = format!("a tensor map of boxes of {box_rows} rows of [{rows}, {columns}]: {why}");
                Error::DeviceRefused { device, why }
            }
            other => other,
        })
    }
}
