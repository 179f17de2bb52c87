//! Work on several tensors in one launch, see `kernels/common/table.cuh`.

use super::{Arg, Cuda, Launch};
use crate::Result;

/// Threads of a block.
const THREADS: u32 = 256;

/// Of a row: the words ahead of the first of its blocks, and its tensors' length.
pub(super) type Row<const WORDS: usize> = ([u64; WORDS], usize);

/// Work of which one block of threads does `block` elements.
pub(super) struct Tabled {
    pub(super) file: &'static str,
    pub(super) kernel: &'static str,
    /// Rows of the kernel's table.
    pub(super) rows: usize,
    /// Elements of a block.
    pub(super) block: usize,
}

impl Tabled {
    /// Blocks of a row.
    pub(super) fn blocks<const WORDS: usize>(&self, rows: &[Row<WORDS>]) -> usize {
        rows.iter().map(|(_, len)| len.div_ceil(self.block)).sum()
    }

    /// The table of some rows, as many as the kernel has at most, as it reads it. The last word of a row is the first of its blocks and, above it, how many.
    pub(super) fn table<const WORDS: usize>(&self, rows: &[Row<WORDS>]) -> Vec<u64> {
        let mut first = 0;
        let mut table = Vec::with_capacity(self.rows * (WORDS + 1) + 1);
        for (words, len) in rows {
            let blocks = len.div_ceil(self.block) as u64;
            table.extend(words);
            table.push(first | blocks << 32);
            first += blocks;
        }
        table.resize(self.rows * (WORDS + 1), 0);
        table.push(rows.len() as u64);
        table
    }

    /// Launches the kernel, whose parameters are the [table](Self::table) of rows of so many blocks, then `args`.
    pub(super) fn launch(&self, cuda: &Cuda, table: &[u64], blocks: usize, args: &[Arg]) -> Result<()> {
        let args = [&[Arg::Table(table)], args].concat();
        let grid = [blocks, 1, 1];
        cuda.launch(&Launch {
            file: self.file,
            kernel: self.kernel,
            grid,
            threads: THREADS,
            shared: 0,
            args: &args,
        })
    }
}
