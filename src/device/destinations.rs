//! The inverse of a list of ids: which positions name each row. It turns a scatter-add into a gather, so that rows
//! can be summed in parallel, each in the order of its positions, without atomics.

/// For every row of a table the positions whose id it is, ascending.
pub struct Destinations {
    /// Where the positions of row r begin: `starts[r]..starts[r + 1]`.
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl Destinations {
    /// Counting sort of `ids`, all below `rows`: O(ids + rows).
    pub fn new(ids: &[u32], rows: usize) -> Self {
        assert!(ids.len() < u32::MAX as usize, "positions are 32-bit");
        let mut starts = vec![0u32; rows + 1];
        for &id in ids {
            starts[id as usize + 1] += 1;
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
        Destinations { starts, positions }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_listed_once_under_its_id() {
        let ids = [3, 0, 3, 1, 3, 0];
        let destinations = Destinations::new(&ids, 5);
        let lists: Vec<&[u32]> = (0..5).map(|row| destinations.of(row)).collect();
        assert_eq!(lists, [&[1, 5][..], &[3], &[], &[0, 2, 4], &[]]);
    }
}
