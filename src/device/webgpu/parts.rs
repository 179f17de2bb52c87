//! How much of a tensor one dispatch is given: what a binding shows, and no more work than a driver's watchdog lets pass.

use super::Gpu;
use crate::{Error, Result};

/// Most elements that one dispatch visits: 256 MiB, which even adapters that share the host's memory read several times over
/// in a tenth of a second.
const MOST_ELEMENTS: u64 = 1 << 26;
/// What a place of a sum by id counts as in elements, at least: one invocation may add up all places of a dispatch, 131,072.
const PLACE: u64 = 512;

/// As many of `limit` bytes as kernels can count: lengths are words of 32 bits to them, also where a binding begins up to one
/// alignment before the first element. Some Metal adapters show more.
fn counted_bytes(limit: u64, alignment: u64) -> u64 {
    limit.min((1 << 32) - alignment.max(4)) & !3
}

/// Rows of `row` bytes for each dispatch, of which each visits `visited` elements: as many as fit a binding of `binding` bytes and
/// visit `most` elements together. All `rows`, or a multiple of `step`, one step at least; `None` where not even that many
/// rows fit a binding.
fn rows_at_a_time(rows: u64, [row, visited]: [u64; 2], [binding, most]: [u64; 2], step: u64) -> Option<u64> {
    if rows * row <= binding && (rows <= step || rows.saturating_mul(visited) <= most) {
        return Some(rows.max(1));
    }
    let fitting = binding / row / step * step;
    let bounded = (most / visited.max(1) / step * step).max(step);
    (fitting > 0).then_some(fitting.min(bounded))
}

impl Gpu {
    /// Bytes that a binding's first byte must be a multiple of.
    pub(super) fn alignment(&self) -> u64 {
        u64::from(self.0.description.limits.min_storage_buffer_offset_alignment)
    }

    /// Most bytes that one binding can show.
    pub fn binding_bytes(&self) -> u64 {
        counted_bytes(self.0.description.limits.max_storage_buffer_binding_size, self.alignment())
    }

    /// How many elements of 4 bytes one binding can show that start anywhere, see [`super::View::around`].
    pub(super) fn elements_anywhere(&self) -> usize {
        (self.binding_bytes().saturating_sub(self.alignment()) / 4).max(1) as usize
    }

    fn most_elements(&self) -> u64 {
        self.0.pretence.dispatch_elements.unwrap_or(MOST_ELEMENTS)
    }

    /// How many rows of `width` elements of 4 bytes a kernel is given at a time, so that each part fits a binding, starts
    /// where a binding may and is of bounded work: `rows` where all are.
    pub fn rows_per_part(&self, rows: usize, width: usize) -> Result<usize> {
        self.parts(rows, width, width as u64)
    }

    /// The same of a table whose rows are looked up, so that the work is none of its size.
    pub(super) fn table_rows_per_part(&self, rows: usize, width: usize) -> Result<usize> {
        self.parts(rows, width, 0)
    }

    /// The same of rows with `places` places of a sum by id each, which visit `visited` elements.
    pub(super) fn places_per_part(
        &self,
        rows: usize,
        width: usize,
        [places, visited]: [usize; 2],
    ) -> Result<usize> {
        self.parts(rows, width, (visited as u64).max(PLACE * places as u64))
    }

    fn parts(&self, rows: usize, width: usize, visited: u64) -> Result<usize> {
        let row = 4 * width.max(1) as u64;
        // Starts of parts are multiples of `step` rows: multiples of the alignment in bytes, also where a row of another
        // binding is a single element.
        let step = (self.alignment() / 4).max(1);
        let bounds = [self.binding_bytes(), self.most_elements()];
        let found = rows_at_a_time(rows as u64, [row, visited], bounds, step);
        found.map(|rows| rows as usize).ok_or_else(|| self.too_wide(step, row))
    }

    /// How many rows of `width` elements fit a binding where parts need not start where a binding may, for they have buffers
    /// of their own.
    pub fn rows_per_buffer(&self, rows: usize, width: usize) -> Result<usize> {
        let row = 4 * width.max(1) as u64;
        match self.binding_bytes() / row {
            0 => Err(self.too_wide(1, row)),
            most => Ok((most as usize).min(rows.max(1))),
        }
    }

    /// Rows of `width` elements that are bounded work, one at least.
    pub(super) fn rows_at_once(&self, width: usize) -> usize {
        (self.most_elements() / width.max(1) as u64).max(1) as usize
    }

    /// `rows`, the fewest that a part may have, do not fit a binding.
    fn too_wide(&self, rows: u64, row: u64) -> Error {
        let (most, count) = (self.binding_bytes(), if rows == 1 { "a row" } else { "rows" });
        let problem = format!(
            "{count} of {row} bytes, {rows} at a time, cannot be bound by {self}, which shows {most} bytes: take fewer \
             columns, or another --device"
        );
        Error::shape("webgpu", problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_shows_no_more_bytes_than_a_word_counts() {
        assert_eq!(counted_bytes(128 << 20, 256), 128 << 20);
        assert_eq!(counted_bytes((1 << 31) - 1, 32), (1 << 31) - 4);
        for limit in [1 << 32, 20 << 30, u64::MAX] {
            assert_eq!(counted_bytes(limit, 256), (1 << 32) - 256);
        }
    }

    #[test]
    fn parts_fit_a_binding_start_where_one_may_and_are_bounded_work() {
        let at_a_time = |rows, each, bounds| rows_at_a_time(rows, each, bounds, 64);
        assert_eq!(at_a_time(1000, [256, 64], [1 << 20, 1 << 20]), Some(1000), "all fit");
        assert_eq!(at_a_time(0, [256, 64], [1 << 20, 1 << 20]), Some(1), "an empty tensor is one part");
        assert_eq!(at_a_time(5000, [256, 64], [1 << 20, 1 << 30]), Some(4096), "what a binding shows");
        assert_eq!(at_a_time(5000, [300, 75], [1 << 20, 1 << 30]), Some(3456), "a multiple of 64 rows");
        assert_eq!(at_a_time(5000, [256, 64], [1 << 30, 130_000]), Some(1984), "what a dispatch visits");
        assert_eq!(at_a_time(5000, [256, 64], [1 << 30, 100]), Some(64), "no less than one step");
        assert_eq!(at_a_time(50, [1 << 15, 1 << 13], [1 << 21, 1 << 10]), Some(50), "fewer than a step");
        assert_eq!(at_a_time(5000, [1 << 15, 8], [1 << 20, 1 << 30]), None, "64 rows are too many");
        assert_eq!(at_a_time(u64::MAX / 8, [4, 1 << 40], [1 << 30, 1 << 26]), Some(64), "no overflow");
    }
}
