//! Tiles, trees and windows of attention indices.

use super::*;

#[test]
fn causal_sequences_are_one_tree_each() {
    let index = AttentionIndex::causal(&[3, 1, 70]).unwrap();
    let trees: Vec<_> = index.trees().iter().map(|t| (t.rows.clone(), t.keys.clone())).collect();
    assert_eq!(trees, [(0..3, 0..3), (3..4, 3..4), (4..74, 4..74)]);
    assert_eq!(index.pairs(), 6 + 1 + 70 * 71 / 2);
    assert_eq!(index.tiles().iter().map(|t| t.rows.len()).collect::<Vec<_>>(), [3, 1, 64, 6]);
}

#[test]
fn causal_sequences_are_what_their_ranges_make() {
    for lengths in [&[3, 1, 70][..], &[], &[0, 64, 0, 129, 1], &[65]] {
        let made = AttentionIndex::causal(lengths).unwrap();
        let of_ranges = AttentionIndex::new(made.ranges.clone(), made.keys).unwrap();
        assert_eq!((made.tiles(), made.trees()), (of_ranges.tiles(), of_ranges.trees()), "{lengths:?}");
        assert_eq!((made.root(), made.keys()), (of_ranges.root(), lengths.iter().sum()));
    }
}

#[test]
fn ranges_that_make_no_sense_are_errors() {
    let row = |r| AttentionIndex::new(vec![RowRanges(r)], 4).unwrap_err().to_string();
    assert!(row([(0, 0); 4]).contains("sees no key"));
    assert!(row([(0, 2), (1, 3), (0, 0), (0, 0)]).contains("overlap the root"));
    assert!(row([(0, 0), (3, 5), (0, 0), (0, 0)]).contains("past the 4 keys"));
}

#[test]
fn a_window_keeps_the_nearest_keys_and_rows_that_start_alike_share_tiles() {
    let root = (0, 2);
    let mut rows =
        vec![RowRanges([(0, 1), (0, 0), (0, 0), (0, 0)]), RowRanges([root, (0, 0), (0, 0), (0, 0)])];
    rows.extend((0..3).map(|t| RowRanges([root, (2, 3 + t), (0, 0), (0, 0)])));
    rows.extend((5..8).map(|leaf| RowRanges([root, (2, 4), (0, 0), (leaf, leaf + 1)])));
    let index = AttentionIndex::new(rows, 8).unwrap();
    assert_eq!(index.windowed(5).unwrap().ranges(), index.ranges());
    let cut = index.windowed(3).unwrap();
    let expected = [
        [(0, 1), (0, 0), (0, 0), (0, 0)],
        [(0, 2), (0, 0), (0, 0), (0, 0)],
        [(0, 2), (2, 3), (0, 0), (0, 0)],
        [(1, 2), (2, 4), (0, 0), (0, 0)],
        [(0, 0), (2, 5), (0, 0), (0, 0)],
        [(0, 0), (2, 4), (0, 0), (5, 6)],
        [(0, 0), (2, 4), (0, 0), (6, 7)],
        [(0, 0), (2, 4), (0, 0), (7, 8)],
    ];
    assert_eq!(cut.ranges().iter().map(|r| r.0).collect::<Vec<_>>(), expected);
    assert_eq!(cut.root(), 0..2);
    assert_eq!(cut.tiles().last().unwrap().rows, 5..8);
    let tiles: Vec<Vec<Range<usize>>> = index.tiles().iter().map(|tile| vec![tile.rows.clone()]).collect();
    assert_eq!(cut.tiles().iter().map(|tile| vec![tile.rows.clone()]).collect::<Vec<_>>(), tiles);
    let alone = index.windowed(1).unwrap();
    assert!(
        alone
            .ranges()
            .iter()
            .enumerate()
            .all(|(i, r)| r.len() == 1 && r.0.contains(&(i as u32, i as u32 + 1)))
    );
}

#[test]
fn deep_rows_through_a_window_share_tiles_and_each_sees_a_run_of_its_keys() {
    // A root, trunks deeper than two tiles, leaves of two rows behind each step.
    let (root, trunk, leaves) = (2u32, 150u32, 3u32);
    let mut rows: Vec<RowRanges> =
        (0..root).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
    rows.extend((0..trunk).map(|t| RowRanges([(0, root), (root, root + t + 1), (0, 0), (0, 0)])));
    for t in [0, 1, 40, 149] {
        for _ in 0..leaves {
            let start = rows.len() as u32;
            let leaf = |end| RowRanges([(0, root), (root, root + t + 1), (0, 0), (start, end)]);
            rows.extend([leaf(start + 1), leaf(start + 2)]);
        }
    }
    let keys = rows.len();
    let whole = AttentionIndex::new(rows, keys).unwrap();
    for width in [1, 2, 3, 32, 100, 152] {
        let cut = whole.windowed(width).unwrap();
        assert_eq!(cut.tiles().len(), whole.tiles().len(), "window {width}");
        for tile in cut.tiles() {
            let shared: Vec<usize> = tile.shared.iter().cloned().flatten().collect();
            let mut used = vec![false; shared.len()];
            for row in &cut.ranges()[tile.rows.clone()] {
                let run = tile.ahead(row)..tile.ahead(row) + row.shared();
                let seen: Vec<usize> = (0..3).flat_map(|i| row.range(i)).collect();
                assert_eq!(shared[run.clone()], seen, "window {width}: {row:?} in {tile:?}");
                used[run.clone()].fill(true);
                assert!(row.range(3).is_empty() || run.end == shared.len(), "{row:?} in {tile:?}");
            }
            assert!(used.iter().all(|&used| used), "window {width}: {tile:?}");
        }
    }
}

#[test]
fn keys_that_descend_with_the_rows_are_one_tree() {
    let rows = vec![RowRanges([(0, 0), (2, 4), (0, 0), (0, 0)]), RowRanges([(0, 0), (0, 3), (0, 0), (0, 0)])];
    let index = AttentionIndex::new(rows, 4).unwrap();
    assert_eq!(index.trees(), [Tree { tiles: 0..2, rows: 0..2, keys: 0..4 }]);
}

/// The rule by pairs of rows, slow and plain.
fn share_tile(one: &RowRanges, other: &RowRanges) -> bool {
    let seen = |row: &RowRanges| [0, 1, 2].map(|i| row.range(i)).map(|r| if r.is_empty() { 0..0 } else { r });
    let (one_seen, other_seen) = (seen(one), seen(other));
    let Some(first) = (0..3).find(|&i| one_seen[i] != other_seen[i]) else { return true };
    let starts_alike = one_seen[first].start == other_seen[first].start
        && !one_seen[first].is_empty()
        && !other_seen[first].is_empty();
    let nothing_follows =
        [&one_seen, &other_seen].iter().all(|seen| seen[first + 1..].iter().all(|r| r.is_empty()));
    starts_alike && nothing_follows && one.range(3).is_empty() && other.range(3).is_empty()
}

#[test]
fn every_two_rows_of_a_tile_share_it_and_the_row_after_it_does_not() {
    let mut state = 7u32;
    let mut draw = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut joined = 0;
    for _ in 0..2_000 {
        // Keys 0..2 are the root's, 2..5 the trunk's, 5..7 the stem's, 8.. the leaf's; a row differs from the one before it in one range.
        let mut draw_range = |i: usize| {
            let (start, len) = [(0, 2), (2, 3), (5, 2), (8, 1)][i];
            if draw(4) == 0 { (start, start) } else { (start, start + 1 + draw(len)) }
        };
        let mut row = RowRanges([0, 1, 2, 3].map(&mut draw_range));
        let mut rows = Vec::new();
        for i in [3, 1, 3, 2, 3, 0, 1, 3] {
            row.0[i] = draw_range(i);
            rows.push(row);
        }
        let tiles = cut_tiles(&rows);
        for (i, tile) in tiles.iter().enumerate() {
            let mine = &rows[tile.rows.clone()];
            joined += mine.len() - 1;
            assert!(mine.iter().all(|a| mine.iter().all(|b| share_tile(a, b))), "{tile:?} of {rows:?}");
            if let Some(next) = tiles.get(i + 1) {
                let after = &rows[next.rows.start];
                assert!(!mine.iter().all(|row| share_tile(row, after)), "{tile:?} ends early in {rows:?}");
            }
        }
    }
    assert!(joined > 500, "only {joined} rows joined a tile");
}
