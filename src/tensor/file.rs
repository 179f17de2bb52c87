//! Named tensors in `.safetensors` files: memory-mapped reading with checks. What writes them is re-exported.

pub use super::file_write::{Entry, write, write_streamed};

use super::Tensor;
use crate::device::cpu::mapped::Mapped;
use crate::device::{DType, Device, Element};
use crate::{Error, Result};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use safetensors::{SafeTensorError, SafeTensors};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Smaller tensors are read at once.
const MAPPED_FROM: usize = 1 << 16;
/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// An open `.safetensors` file. Its header has been checked against the file's length, no tensor has been read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    map: Arc<Mmap>,
    header: Metadata,
    data_start: usize,
}

impl TensorFile {
    /// Maps the file and checks its header: the magic, offsets that neither overlap nor leave gaps, and the length.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: the map is only read. Another process that cuts the file short meanwhile is outside of what
        // any memory-mapped reader can guard against.
        let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?);
        let (header_len, header) = SafeTensors::read_metadata(&map).map_err(|e| damaged(path, &e))?;
        if let Some(name) = misaligned(&header) {
            let problem = "its bytes do not begin at a multiple of its type's size";
            let remedy = "the file is damaged, or was written by a faulty program: fetch or write it again";
            return Err(Error::invalid(path, format!("tensor {name}"), problem, remedy));
        }
        Ok(TensorFile { path: path.to_path_buf(), file, map, header, data_start: LENGTH_BYTES + header_len })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Element type of each tensor, as the header names it.
    pub fn types(&self) -> Vec<String> {
        self.header.tensors().values().map(|info| format!("{:?}", info.dtype)).collect()
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort();
        names
    }

    /// Type of a tensor, of f32, f16 and bf16; `None` for others and where the file has none of that name.
    pub fn stored_type(&self, name: &str) -> Option<DType> {
        self.header.info(name).and_then(|info| float_type(info.dtype))
    }

    /// Shape of a tensor; `None` where the file has none of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| &info.shape[..])
    }

    /// A value of the header's string-to-string metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The tensor `name` as float type `dtype` on `device`, from f16, bf16, f32 or f64. A tensor that is missing,
    /// has another shape than `shape` or another type is an error.
    pub fn read(&self, name: &str, shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
        let info = self.info(name, shape)?;
        let bytes = self.bytes(info);
        match info.dtype {
            // As it is stored: no detour through wider types.
            Dtype::F16 if dtype == DType::F16 => {
                keep(chunks::<f16, 2>(bytes, f16::from_le_bytes), shape, device)
            }
            Dtype::BF16 if dtype == DType::BF16 => {
                keep(chunks::<bf16, 2>(bytes, bf16::from_le_bytes), shape, device)
            }
            Dtype::F32 => convert(chunks::<f32, 4>(bytes, f32::from_le_bytes), shape, device, dtype),
            Dtype::F16 => convert(chunks::<f16, 2>(bytes, f16::from_le_bytes), shape, device, dtype),
            Dtype::BF16 => convert(chunks::<bf16, 2>(bytes, bf16::from_le_bytes), shape, device, dtype),
            Dtype::F64 => {
                let values = chunks::<f64, 8>(bytes, f64::from_le_bytes).collect::<Vec<_>>();
                Tensor::from_f64(device, dtype, &values, shape)
            }
            other => Err(self.wrong(name, format!("the type is {other:?}, expected F32, F16, BF16 or F64"))),
        }
    }

    /// As [`TensorFile::read`], but a large tensor of f32, f16 or bf16 that is computed with in f32 stays in the file
    /// until it is used: nothing of it is read here. The file must then stay as it is; one that is replaced by
    /// renaming another over it does.
    pub fn map(&self, name: &str, shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
        let info = self.info(name, shape)?;
        let Some(stored) = float_type(info.dtype) else {
            return self.read(name, shape, device, dtype);
        };
        let (start, end) = info.data_offsets;
        let range = self.data_start + start..self.data_start + end;
        if dtype != DType::F32 || range.len() < MAPPED_FROM || cfg!(target_endian = "big") {
            return self.read(name, shape, device, dtype);
        }
        match (device, Mapped::new(self.map.clone(), range, stored)) {
            (Device::Cpu, Some(mapped)) => Tensor::from_mapped(mapped, shape),
            // Another device reads its own copy; a header that is not padded leaves its data askew.
            _ => self.read(name, shape, device, dtype),
        }
    }

    /// What the system knows of the file that is mapped, whatever lies under its name by now.
    pub(crate) fn file_metadata(&self) -> Result<std::fs::Metadata> {
        self.file.metadata().map_err(|e| Error::io(&self.path, e))
    }

    /// All bytes of the file.
    pub fn all(&self) -> &[u8] {
        &self.map
    }

    /// The tensor `name` of type U32 as host values; errors as for [`TensorFile::read`].
    pub fn read_ids(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        let info = self.info(name, shape)?;
        if info.dtype != Dtype::U32 {
            return Err(self.wrong(name, format!("the type is {:?}, expected U32", info.dtype)));
        }
        Ok(chunks::<u32, 4>(self.bytes(info), u32::from_le_bytes).collect())
    }

    /// The tensor `name` as it is stored, of type F32, F64 or U32, on `device`, but F64 on the host, for adapters lack it;
    /// errors as for [`TensorFile::read`].
    pub fn read_stored(&self, name: &str, device: &Device) -> Result<Tensor> {
        let info = self.header.info(name);
        let info = info.ok_or_else(|| self.wrong(name, "the tensor is missing".into()))?;
        match info.dtype {
            Dtype::U32 => Tensor::from_slice(device, &self.read_ids(name, &info.shape)?, &info.shape),
            Dtype::F64 => self.read(name, &info.shape, &Device::Cpu, DType::F64),
            Dtype::F32 => self.read(name, &info.shape, device, DType::F32),
            other => Err(self.wrong(name, format!("the type is {other:?}, expected F32, F64 or U32"))),
        }
    }

    /// The little-endian elements of the tensor `name`, of type F32 or U32 as `dtype` says; errors as for
    /// [`TensorFile::read`].
    pub fn read_bytes(&self, name: &str, shape: &[usize], dtype: DType) -> Result<&[u8]> {
        let info = self.info(name, shape)?;
        match (info.dtype, dtype) {
            (Dtype::U32, DType::U32) | (Dtype::F32, DType::F32) => Ok(self.bytes(info)),
            (found, _) => Err(self.wrong(name, format!("the type is {found:?}, expected {dtype}"))),
        }
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let Some(info) = self.header.info(name) else {
            return Err(self.wrong(name, "the tensor is missing".into()));
        };
        if info.shape != shape {
            return Err(self.wrong(name, format!("the shape is {:?}, expected {shape:?}", info.shape)));
        }
        Ok(info)
    }

    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        let (start, end) = info.data_offsets;
        &self.map[self.data_start + start..self.data_start + end]
    }

    fn wrong(&self, name: &str, problem: String) -> Error {
        let remedy = "check that the files of the folder belong together, or fetch them again";
        Error::invalid(&self.path, format!("tensor {name}"), problem, remedy)
    }
}

/// The first tensor, by name, whose offset is no multiple of its type's size.
fn misaligned(header: &Metadata) -> Option<String> {
    let wrong = |info: &TensorInfo| !info.data_offsets.0.is_multiple_of((info.dtype.bitsize() / 8).max(1));
    let names = header.tensors().into_iter().filter(|(_, info)| wrong(info)).map(|(name, _)| name);
    names.min()
}

fn chunks<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |chunk| from(*chunk))
}

fn float_type(stored: Dtype) -> Option<DType> {
    match stored {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

fn keep<T: Element>(values: impl Iterator<Item = T>, shape: &[usize], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(device, &values.collect::<Vec<_>>(), shape)
}

fn convert<T: Into<f32> + Into<f64>>(
    values: impl Iterator<Item = T>,
    shape: &[usize],
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    match dtype {
        DType::F32 => Tensor::from_slice(device, &values.map(Into::<f32>::into).collect::<Vec<_>>(), shape),
        _ => Tensor::from_f64(device, dtype, &values.map(Into::into).collect::<Vec<_>>(), shape),
    }
}

fn damaged(path: &Path, error: &SafeTensorError) -> Error {
    let remedy = "the file is damaged or incomplete: fetch or write it again";
    let header = |problem: String| Error::invalid(path, "header", problem, remedy);
    match error {
        SafeTensorError::HeaderTooSmall => header("the file is shorter than 8 bytes".into()),
        SafeTensorError::HeaderTooLarge
        | SafeTensorError::InvalidHeader(_)
        | SafeTensorError::InvalidHeaderDeserialization(_) => {
            header(format!("this is no safetensors file ({error})"))
        }
        SafeTensorError::InvalidHeaderLength => header("the file ends inside its header".into()),
        SafeTensorError::InvalidOffset(name) => Error::invalid(
            path,
            format!("tensor {name}"),
            "its bytes overlap another's or leave a gap",
            remedy,
        ),
        SafeTensorError::MetadataIncompleteBuffer => {
            header("the file is shorter or longer than its header says".into())
        }
        other => header(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn sample() -> Vec<(String, Tensor)> {
        let cpu = Device::Cpu;
        let halves = [1.5, -0.25].map(f16::from_f32);
        let brains = [3.0, -2.0, 0.5].map(bf16::from_f32);
        vec![
            ("ids".into(), Tensor::from_ids(&cpu, &[7, 9]).unwrap()),
            ("half".into(), Tensor::from_slice(&cpu, &halves, &[2]).unwrap()),
            ("brain".into(), Tensor::from_slice(&cpu, &brains, &[3, 1]).unwrap()),
            ("single".into(), Tensor::from_slice(&cpu, &[0.1f32, 0.2], &[1, 2]).unwrap()),
            ("double".into(), Tensor::from_slice(&cpu, &[0.1f64], &[1]).unwrap()),
        ]
    }

    #[test]
    fn every_type_reads_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let metadata =
            BTreeMap::from([("a".to_string(), "1".to_string()), ("b".to_string(), "2".to_string())]);
        write(&path, &sample(), &metadata).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let read = |name, shape: &[usize]| {
            file.read(name, shape, &Device::Cpu, DType::F64).and_then(|t| t.to_vec::<f64>()).unwrap()
        };
        assert_eq!(read("half", &[2]), [1.5, -0.25]);
        assert_eq!(read("brain", &[3, 1]), [3.0, -2.0, 0.5]);
        assert_eq!(read("double", &[1]), [0.1]);
        let single = file.read("single", &[1, 2], &Device::Cpu, DType::F32).unwrap();
        assert_eq!(single.to_vec::<f32>().unwrap(), [0.1, 0.2]);
        assert_eq!(file.read_ids("ids", &[2]).unwrap(), [7, 9]);
        assert_eq!((file.metadata("b"), file.metadata("c")), (Some("2"), None));
        assert_eq!(file.names(), ["brain", "double", "half", "ids", "single"]);
    }

    #[test]
    fn a_mapped_tensor_has_the_values_of_a_read_one_and_writing_to_it_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let values: Vec<f32> = (0..40_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        let shape = [200, 200];
        let tensors = vec![
            ("single".to_string(), Tensor::from_slice(&Device::Cpu, &values, &shape).unwrap()),
            ("half".to_string(), Tensor::from_slice(&Device::Cpu, &halves, &shape).unwrap()),
            ("brain".to_string(), Tensor::from_slice(&Device::Cpu, &brains, &shape).unwrap()),
        ];
        write(&path, &tensors, &BTreeMap::new()).unwrap();
        let before = std::fs::read(&path).unwrap();
        let file = TensorFile::open(&path).unwrap();
        for (name, _) in &tensors {
            let read = file.read(name, &shape, &Device::Cpu, DType::F32).unwrap().to_vec::<f32>().unwrap();
            let mut mapped = file.map(name, &shape, &Device::Cpu, DType::F32).unwrap();
            assert_eq!(mapped.to_vec::<f32>().unwrap(), read, "{name}");
            assert_eq!(mapped.rows(3..5).unwrap().to_vec::<f32>().unwrap(), read[600..1000]);
            mapped.host_mut::<f32>()[7] = 5.0;
            let changed = mapped.to_vec::<f32>().unwrap();
            assert!(changed[7] == 5.0 && changed[8..] == read[8..] && changed[..7] == read[..7]);
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert!(
            file.map("half", &[200], &Device::Cpu, DType::F32)
                .unwrap_err()
                .to_string()
                .contains("[200, 200]")
        );
    }

    #[test]
    fn bytes_do_not_depend_on_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut tensors = sample();
        write(&a, &tensors, &BTreeMap::new()).unwrap();
        tensors.reverse();
        write(&b, &tensors, &BTreeMap::new()).unwrap();
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
        write(&whole, &sample(), &BTreeMap::new()).unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&cut, &bytes[..len]).unwrap();
            let error = TensorFile::open(&cut).unwrap_err().to_string();
            assert!(error.contains("cut"), "{len}: {error}");
        }
    }

    #[test]
    fn offsets_that_overlap_or_are_huge_negative_or_misaligned_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let two = |a: &str, b: &str| format!(r#"{{"a":{{"dtype":{a}}},"b":{{"dtype":{b}}}}}"#);
        let a = r#""F32","shape":[2],"data_offsets":[0,8]"#;
        for (header, message) in [
            (two(a, r#""F32","shape":[2],"data_offsets":[4,12]"#), "tensor b: its bytes overlap"),
            (two(a, r#""F32","shape":[2],"data_offsets":[9,17]"#), "tensor b: its bytes overlap"),
            (two(a, r#""F32","shape":[4611686018427387904,4],"data_offsets":[8,12]"#), "header"),
            (two(a, r#""F32","shape":[1],"data_offsets":[8,18446744073709551615]"#), "header"),
            (two(a, r#""F32","shape":[-1],"data_offsets":[8,12]"#), "no safetensors file"),
            (two(a, r#""F32","shape":[1],"data_offsets":[-8,12]"#), "no safetensors file"),
            (
                two(r#""U8","shape":[2],"data_offsets":[0,2]"#, r#""F32","shape":[2],"data_offsets":[2,10]"#),
                "tensor b: its bytes do not begin at a multiple",
            ),
        ] {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(vec![0; if header.contains("U8") { 10 } else { 12 }]);
            std::fs::write(&path, bytes).unwrap();
            let error = TensorFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{header}: {error}");
        }
    }

    #[test]
    fn missing_tensors_and_wrong_shapes_name_what_was_expected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, &sample(), &BTreeMap::new()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let message =
            |name, shape: &[usize]| file.read(name, shape, &Device::Cpu, DType::F32).unwrap_err().to_string();
        assert!(message("absent", &[2]).contains("tensor absent: the tensor is missing"));
        assert!(message("half", &[3]).contains("the shape is [2], expected [3]"));
        assert!(message("ids", &[2]).contains("the type is U32"));
        assert!(file.read_ids("half", &[2]).unwrap_err().to_string().contains("expected U32"));
    }
}
