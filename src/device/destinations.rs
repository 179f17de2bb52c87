//! The inverse of a list of ids: which positions name each row. It turns a scatter-add into a gather, so that rows
//! can be summed in parallel, each in the order of its positions, without atomics.

use crate::{Error, Result};

/// For every row of a table the positions whose id it is, ascending.
pub struct Destinations {
    /// Where the positions of row r begin: `starts[r]..starts[r + 1]`.
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl Destinations {
    /// Counting sort of `ids`, all below `rows`, for the op `op`: O(ids + rows).
    ///
    /// # Errors
    /// An id that names no row: a search on an adapter leaves `u32::MAX` where it found nothing, and no gradient can go
    /// there. More ids than 32 bits count.
    pub fn new(op: &'static str, ids: &[u32], rows: usize) -> Result<Self> {
        if u32::try_from(ids.len()).is_err() {
            return Err(Error::shape(op, format!("{} ids are more than 32 bits count", ids.len())));
        }
        let mut starts = vec![0u32; rows + 1];
        for (position, &id) in ids.iter().enumerate() {
            let Some(count) = starts[1..].get_mut(id as usize) else {
                return Err(nowhere(op, position, id, rows));
            };
            *count += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut positions = vec![0u32; ids.len()];
        for (position, &id) in ids.iter().enumerate() {
            let place = &mut next[id as usize];
            positions[*place as usize] = position as u32;
            *place += 1;
        }
        Ok(Destinations { starts, positions })
    }

    /// Where the positions of each row begin, and at last their number; and the positions.
    pub fn parts(&self) -> (&[u32], &[u32]) {
        (&self.starts, &self.positions)
    }

    /// Positions of `row`, ascending.
    #[inline(always)]
    pub fn of(&self, row: usize) -> &[u32] {
        &self.positions[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

fn nowhere(op: &'static str, position: usize, id: u32, rows: usize) -> Error {
    let found = match id {
        u32::MAX => "is missing: the search that made it had too few scores that are numbers".to_string(),
        id => format!("is {id}"),
    };
    Error::shape(op, format!("the id at position {position} {found}; a gradient needs ids below {rows}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_listed_once_under_its_id() {
        let ids = [3, 0, 3, 1, 3, 0];
        let destinations = Destinations::new("test", &ids, 5).unwrap();
        let lists: Vec<&[u32]> = (0..5).map(|row| destinations.of(row)).collect();
        assert_eq!(lists, [&[1, 5][..], &[3], &[], &[0, 2, 4], &[]]);
    }

    #[test]
    fn an_id_that_names_no_row_is_an_error() {
        let message = |ids: &[u32], rows| Destinations::new("test", ids, rows).err().unwrap().to_string();
        assert_eq!(message(&[0, 5], 5), "test: the id at position 1 is 5; a gradient needs ids below 5");
        assert!(message(&[u32::MAX], 1).contains("position 0 is missing: the search that made it"));
        assert!(message(&[0], 0).contains("below 0"));
    }
}
