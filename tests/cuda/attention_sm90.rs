//! Forest attention on Hopper: its own kernel for heads 64 and 128 wide, beside what attention_bf16.rs asks of all.

use super::attention_bf16::{Layout, attention, expect_right, inputs_of, random_forest};
use super::ops::attention::{expect_same_bits_in_any_forest, expect_same_bits_through_a_window};
use super::parity::to;
use super::{generations, in_each_manner};
use lea::device::profile::record;
use lea::device::{DType, Device};
use lea::ops::Op;
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use std::sync::Arc;

/// Those whose compute capability is 9.0.
pub fn hopper(test: &str) -> Vec<Device> {
    let of_hopper =
        |device: &Device| matches!(device, Device::Cuda(cuda) if cuda.description().capability == (9, 0));
    generations(test).into_iter().filter(of_hopper).collect()
}

/// A root of the first length, and trees behind it: lengths of the trunk, of its stem, of the leaves of the stem.
pub fn trees(root: u32, trees: &[(u32, u32, &[u32])]) -> AttentionIndex {
    let mut rows: Vec<RowRanges> =
        (0..root).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
    for &(trunk, stem, leaves) in trees {
        let start = rows.len() as u32;
        rows.extend((0..trunk).map(|t| RowRanges([(0, root), (start, start + t + 1), (0, 0), (0, 0)])));
        let (seen, first) = ((start, start + trunk), rows.len() as u32);
        rows.extend((0..stem).map(|i| RowRanges([(0, root), seen, (first, first + i + 1), (0, 0)])));
        for &length in leaves {
            let leaf = rows.len() as u32;
            let own = |i| RowRanges([(0, root), seen, (first, first + stem), (leaf, leaf + i + 1)]);
            rows.extend((0..length).map(own));
        }
    }
    let keys = rows.len();
    AttentionIndex::new(rows, keys).unwrap()
}

/// Ranges that end within a copy of 16 keys, with it and one behind it, and chunks of 64 keys in which all do; more trees than there are
/// blocks.
#[test]
fn ranges_of_any_length_are_as_near_as_those_of_a_plain_loop() {
    let odd = trees(17, &[(33, 15, &[1, 1, 2]), (1, 1, &[1; 5]), (16, 16, &[3]), (47, 2, &[1, 20])]);
    for layout in [(2, 1, 64), (1, 1, 128)] {
        expect_right(&hopper("odd ranges"), "odd ranges", &odd, layout);
    }
}

/// In the deep one slots come round.
#[test]
fn forests_of_every_kind_are_as_near_as_a_plain_loop() {
    let many = [1; 40];
    let cases: [(&str, AttentionIndex, Layout); 7] = [
        ("no rows", AttentionIndex::new(vec![], 5).unwrap(), (2, 1, 64)),
        ("one row", trees(1, &[]), (1, 1, 64)),
        ("group of more heads than a block has rows", trees(3, &[(2, 0, &[1])]), (140, 1, 64)),
        ("leaves alone", trees(0, &[(0, 0, &[1, 1, 3, 30])]), (3, 1, 128)),
        ("no stem", trees(32, &[(70, 0, &many), (9, 0, &many)]), (2, 2, 64)),
        ("no root", trees(0, &[(65, 3, &many), (1, 0, &[40, 1])]), (4, 2, 128)),
        ("deep", AttentionIndex::causal(&[300, 1]).unwrap(), (2, 1, 64)),
    ];
    let devices = hopper("forests of every kind");
    for (name, index, layout) in cases {
        expect_right(&devices, name, &index, layout);
    }
}

#[test]
fn random_forests_are_as_near_as_a_plain_loop_on_hopper() {
    let devices = hopper("random forests");
    for (seed, layout) in [(1, (2, 1, 64)), (2, (3, 1, 128)), (4, (2, 2, 64))] {
        let index = random_forest(seed);
        expect_right(&devices, &format!("random forest {seed}"), &index, layout);
    }
    let windowed = random_forest(3).windowed(40).unwrap();
    expect_right(&devices, "random forest through a window", &windowed, (4, 1, 64));
}

#[test]
fn hopper_runs_its_own_kernel() {
    for device in hopper("hopper's kernel") {
        for (layout, own) in [((2, 1, 64), true), ((2, 1, 128), true), ((2, 1, 60), false)] {
            let index = Arc::new(trees(3, &[(5, 0, &[1, 1])]));
            let inputs = inputs_of(&index, layout).map(|x| to(&device, DType::F32, &x));
            let mut op = attention(&index, layout, DType::BF16);
            let run = || op.forward(&[&inputs[0], &inputs[1], &inputs[2]], false);
            let (_, profile) = record(&device, run).unwrap();
            let names: Vec<&str> = profile.launches.iter().map(|launch| &*launch.kernel).collect();
            assert_eq!(names.iter().any(|name| name.contains("_sm90_")), own, "{names:?}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_forest_on_hopper() {
    let devices = hopper("same bits on Hopper");
    for head_dim in [64, 128] {
        in_each_manner(|| expect_same_bits_in_any_forest(&devices, head_dim, DType::BF16));
    }
}

#[test]
fn a_row_has_the_same_bits_through_a_window_on_hopper() {
    let devices = hopper("same bits on Hopper through a window");
    in_each_manner(|| expect_same_bits_through_a_window(&devices, &[40, 3], 64, DType::BF16));
}
