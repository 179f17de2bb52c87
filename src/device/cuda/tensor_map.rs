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
        Self::of(matrix, &[rows, columns], &[box_rows])
    }

    /// The same of rows of heads, `[rows, heads, width]`: boxes of `box_rows` rows of `box_heads` heads each, one head after the other.
    pub fn of_heads(heads: View, shape: [usize; 3], [box_rows, box_heads]: [usize; 2]) -> Result<Self> {
        Self::of(heads, &shape, &[box_rows, box_heads])
    }

    /// `shape` and `boxes` from the outermost direction on, the last one's box left out.
    fn of(tensor: View, shape: &[usize], boxes: &[usize]) -> Result<Self> {
        let (rows, columns) = (shape[0], shape[1..].iter().product());
        assert!(
            takes(rows, columns)
                && shape.iter().all(|&extent| extent > 0)
                && boxes.iter().all(|places| (1..=MOST_ROWS).contains(places)),
            "boxes of {boxes:?} of {shape:?}"
        );
        assert!(tensor.dtype() == DType::BF16 && tensor.len() == rows * columns, "{tensor:?}");
        let extents: Vec<u64> = shape.iter().rev().map(|&extent| extent as u64).collect();
        let strides: Vec<u64> = extents[..extents.len() - 1]
            .iter()
            .scan(DType::BF16.size() as u64, |bytes, extent| {
                *bytes *= extent;
                Some(*bytes)
            })
            .collect();
        let sides: Vec<u32> = std::iter::once(BOX_COLUMNS)
            .chain(boxes.iter().rev().copied())
            .map(|places| places as u32)
            .collect();
        let mut map = CUtensorMap { opaque: [0; 16] };
        let cuda = tensor.cuda();
        let made = cuda.call(|_| {
            // SAFETY: the map is at a multiple of 64 bytes as its type says, and each list has as many numbers as the directions need.
            unsafe {
                sys::cuTensorMapEncodeTiled(
                    &mut map,
                    sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                    extents.len() as u32,
                    tensor.address() as *mut std::ffi::c_void,
                    extents.as_ptr(),
                    strides.as_ptr(),
                    sides.as_ptr(),
                    [1; 3].as_ptr(),
                    sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                    sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                    sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                    sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
                )
            }
        });
        made.map(|()| TensorMap(map)).map_err(|error| match error {
            Error::DeviceRefused { device, why } => {
                let why = format!("a tensor map of boxes of {boxes:?} of {shape:?}: {why}");
                Error::DeviceRefused { device, why }
            }
            other => other,
        })
    }
}
