// Parts of lists of places: positions [all] holds, for every row of a table, the places whose id it is, ascending.

/// The first of positions start .. end whose place is `offset` or after it; `end` where none is.
fn first_place(start: u32, end: u32, offset: u32) -> u32 {
    var low = start;
    var high = end;
    while low < high {
        let middle = low + (high - low) / 2u;
        if positions[middle] < offset {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}
