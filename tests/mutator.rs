//! The mutator of `tests/mutate`, on which the tests of all file readers stand.

mod mutate;

use mutate::trial::{self, Bound};
use mutate::{Kind, Mutator, allocation};
use std::collections::HashSet;

const FILES: [(Kind, &[u8]); 6] = [
    (Kind::Bytes, b"some bytes"),
    (Kind::Lines(b'\t'), b"user\titem\ttime\n1\t2\t30\n4\t5\t60\n"),
    (Kind::Json, br#"{"a": [1, {"b": "text"}], "c": null, "d": 1.5}"#),
    (Kind::JsonLines, b"{\"a\": 1, \"b\": [2]}\n{\"a\": 3}\n"),
    (Kind::Binary, b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"),
    (Kind::Safetensors, b"\x02\0\0\0\0\0\0\0{}data"),
];

#[test]
fn a_seed_makes_the_same_mutation_and_most_seeds_another() {
    for (kind, file) in FILES {
        let make = |seed| Mutator::new(seed).mutate(kind, file);
        let all: Vec<Vec<u8>> = (0..500).map(make).collect();
        assert!((0..500).map(make).eq(all.iter().cloned()), "{kind:?}");
        let unchanged = all.iter().filter(|mutation| *mutation == file).count();
        let distinct = all.iter().collect::<HashSet<_>>().len();
        assert!(unchanged < 75 && distinct > 150, "{kind:?}: {unchanged} unchanged, {distinct} distinct");
    }
}

#[test]
fn mutations_of_structured_files_are_often_still_of_their_structure() {
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    let share = |kind, file: &[u8], holds: &dyn Fn(&[u8]) -> bool| {
        (0..500).filter(|&seed| holds(&Mutator::new(seed).mutate(kind, file))).count()
    };
    assert!(share(Kind::Json, FILES[2].1, &json) > 150);
    let header = |bytes: &[u8]| {
        let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b) as usize);
        length.and_then(|n| bytes[8..].get(..n)).is_some_and(json)
    };
    let file = [&b"\x16\0\0\0\0\0\0\0"[..], br#"{"a":{"shape":[1, 2]}}"#, b"data"].concat();
    assert!(share(Kind::Safetensors, &file, &header) > 100);
}

#[test]
fn the_peak_is_what_stands_at_one_time() {
    let megabyte = || vec![1u8; 1 << 20];
    let (_, one_by_one) = allocation::peak(|| (0..5).map(|_| megabyte().len()).sum::<usize>());
    let (_, together) = allocation::peak(|| (0..5).map(|_| megabyte()).collect::<Vec<_>>().len());
    assert!((1 << 20..2 << 20).contains(&one_by_one), "{one_by_one}");
    assert!((5 << 20..6 << 20).contains(&together), "{together}");
}

#[test]
fn readers_that_panic_hoard_or_are_mute_are_found_out() {
    let bound = Bound { factor: 4, constant: 1 << 16 };
    let found_out = |read: fn(&[u8]) -> lea::Result<()>| {
        std::panic::catch_unwind(|| trial::run("self-test", Kind::Bytes, b"abc", 50, bound, read)).is_err()
    };
    assert!(found_out(|bytes| {
        assert!(bytes.len() != 4);
        Ok(())
    }));
    assert!(found_out(|_| {
        assert_eq!(vec![0u8; 1 << 20].len(), 1 << 20);
        Ok(())
    }));
    assert!(found_out(|_| Err(lea::Error::invalid("x", "", "", ""))));
    assert!(!found_out(|_| Err(lea::Error::invalid("file", "line 1", "it is wrong", "mend it"))));
    for n in 0..50 {
        let _ = std::fs::remove_file(std::env::temp_dir().join(format!("mutation-self-test-{n}")));
    }
}
