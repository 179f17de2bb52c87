//! Mutations of binary files: sizes, offsets and counts that lie.

use super::Mutator;

impl Mutator {
    /// Overwrites a little-endian number of 8 or 4 bytes at an aligned place.
    pub(super) fn spoil_numbers(&mut self, bytes: &mut Vec<u8>) {
        let width = if self.below(2) == 0 { 8 } else { 4 };
        if bytes.len() < width {
            return self.spoil_bytes(bytes);
        }
        let at = self.below(bytes.len() / width) * width;
        let mut old = [0; 8];
        old[..width].copy_from_slice(&bytes[at..at + width]);
        let new = self.number_near(u64::from_le_bytes(old), bytes.len());
        bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
    }

    /// As a safetensors file's sections ask for: its header as JSON, its length, or plain bytes of its data.
    pub(super) fn spoil_safetensors(&mut self, bytes: &mut Vec<u8>) {
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return self.spoil_bytes(bytes) };
        let length = u64::from_le_bytes(*length);
        let Some((header, data)) = usize::try_from(length).ok().and_then(|n| rest.split_at_checked(n)) else {
            return self.spoil_numbers(bytes);
        };
        let (mut header, data) = (header.to_vec(), data.to_vec());
        let declared = match self.below(8) {
            0 => Some(self.number_near(length, bytes.len())),
            1 => return self.spoil_numbers(bytes),
            2 => {
                self.spoil_lines(&mut header, b',');
                None
            }
            _ => {
                self.spoil_json(&mut header);
                None
            }
        };
        bytes.clear();
        bytes.extend(declared.unwrap_or(header.len() as u64).to_le_bytes());
        bytes.extend(header);
        bytes.extend(data);
    }

    /// An extreme, or a neighbour of what stood there or of the file's size.
    fn number_near(&mut self, old: u64, size: usize) -> u64 {
        let extremes =
            [0, 1, 1 << 31, 1 << 32, (1 << 32) - 1, 1 << 63, i64::MAX as u64, u64::MAX, u64::MAX - 7];
        let near = [old.wrapping_add(1), old.wrapping_sub(1), old << 1, old.wrapping_neg(), old.swap_bytes()];
        let sizes = [size as u64, (size as u64).wrapping_sub(8), size as u64 + 1];
        match self.below(3) {
            0 => self.pick(&extremes),
            1 => self.pick(&near),
            _ => self.pick(&sizes),
        }
    }
}
