//! Writing named tensors to a `.safetensors` file: atomically, whole or tensor by tensor.

use super::Tensor;
use crate::device::{DType, Element};
use crate::files::{self, FileHash};
use crate::{Error, Result};
use half::{bf16, f16};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// A tensor that is to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Entry {
    fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.size(), |bytes, &extent| bytes.checked_mul(extent))
    }
}

/// Writes named tensors and string metadata to one `.safetensors` file, atomically. The same tensors and metadata
/// give the same bytes, in whatever order they are named.
pub fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    let entry = |(name, tensor): &(String, Tensor)| Entry {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
    };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    write_streamed(path, &entries, metadata, &mut |index, out| {
        out.write_all(&to_bytes(&tensors[index].1).map_err(std::io::Error::other)?)
    })?;
    Ok(())
}

/// As [`write()`], of tensors that need not be in memory: `fill` writes the little-endian elements of the entry of the
/// given number. Returns the size and hash of the file.
///
/// # Errors
/// Two entries of one name; entries that `fill` gave more or fewer bytes than their shape has.
pub fn write_streamed(
    path: &Path,
    entries: &[Entry],
    metadata: &BTreeMap<String, String>,
    fill: &mut dyn FnMut(usize, &mut dyn Write) -> std::io::Result<()>,
) -> Result<FileHash> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    // Wide types first: every tensor is then aligned to its type.
    order.sort_by_key(|&i| (std::cmp::Reverse(entries[i].dtype.size()), &entries[i].name));
    let header = header(path, order.iter().map(|&i| &entries[i]), metadata)?;
    files::write_hashed(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for &i in &order {
            let mut part = Exactly { out, left: entries[i].bytes().unwrap_or(usize::MAX) };
            fill(i, &mut part)?;
            if part.left > 0 {
                let name = &entries[i].name;
                return Err(std::io::Error::other(format!("{} bytes of {name} are missing", part.left)));
            }
        }
        Ok(())
    })
}

fn header<'a>(
    path: &Path,
    entries: impl Iterator<Item = &'a Entry>,
    metadata: &BTreeMap<String, String>,
) -> Result<String> {
    let wrong = |problem: String| Error::shape("write", format!("{}: {problem}", path.display()));
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0usize;
    for entry in entries {
        let end = entry.bytes().and_then(|bytes| offset.checked_add(bytes));
        let Some(end) = end else {
            return Err(wrong(format!("{} of shape {:?} is too large", entry.name, entry.shape)));
        };
        let value = json!({
            "dtype": entry.dtype.to_string().to_uppercase(),
            "shape": entry.shape,
            "data_offsets": [offset, end],
        });
        if header.insert(entry.name.clone(), value).is_some() {
            return Err(wrong(format!("two tensors named {}", entry.name)));
        }
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // The data begin at a multiple of eight bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    Ok(header)
}

/// Lets through as many bytes as a tensor has.
struct Exactly<'a> {
    out: &'a mut dyn Write,
    left: usize,
}

impl Write for Exactly<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.left {
            return Err(std::io::Error::other("more bytes than the tensor has"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The little-endian elements of `tensor`.
pub(super) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    fn of<T: Element, const N: usize>(tensor: &Tensor, to: fn(T) -> [u8; N]) -> Result<Vec<u8>> {
        Ok(tensor.to_vec::<T>()?.into_iter().flat_map(to).collect())
    }
    match tensor.dtype() {
        DType::F32 => of(tensor, f32::to_le_bytes),
        DType::F64 => of(tensor, f64::to_le_bytes),
        DType::F16 => of(tensor, f16::to_le_bytes),
        DType::BF16 => of(tensor, bf16::to_le_bytes),
        DType::U32 => of(tensor, u32::to_le_bytes),
    }
}
