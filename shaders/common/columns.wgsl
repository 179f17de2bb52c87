// Sums over the rows of a matrix, column by column: a workgroup takes COLUMNS columns of a block of ROW_BLOCK rows, ROW_LANES
// invocations a column. Each adds every ROW_LANES-th row in order; their sums are added in order of the lanes. So the order
// depends on the number of rows alone, and reads of a row are coalesced.

const COLUMNS = 32u;
const ROW_LANES = 8u;

struct ColumnBlock {
    block: u32,
    column: u32,
    // First row of this invocation, and the end of the block.
    row: u32,
    end: u32,
}

fn column_block(number: u32, lane: u32, rows: u32, columns: u32) -> ColumnBlock {
    let across = (columns + COLUMNS - 1u) / COLUMNS;
    let block = number / across;
    let first = block * ROW_BLOCK;
    return ColumnBlock(
        block,
        (number % across) * COLUMNS + lane % COLUMNS,
        first + lane / COLUMNS,
        min(first + ROW_BLOCK, rows),
    );
}

var<workgroup> column_slots: array<f32, COLUMNS * ROW_LANES>;

/// Sum over the lanes of a column. All invocations must call; those of the first COLUMNS lanes get their column's sum.
fn column_sum(value: f32, lane: u32) -> f32 {
    column_slots[lane] = value;
    workgroupBarrier();
    var sum = 0.0;
    if lane < COLUMNS {
        for (var slot = lane; slot < COLUMNS * ROW_LANES; slot += COLUMNS) {
            sum += column_slots[slot];
        }
    }
    workgroupBarrier();
    return sum;
}
