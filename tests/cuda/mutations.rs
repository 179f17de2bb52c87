//! Whether the parity tests on the CPU bite: each of these mistakes in a kernel must make a test of its op fail.
//!
//! All mistakes stand in one copy of the kernels, each under a condition that CUDA_HOST_FAULT sets; barriers are taken away by
//! CUDA_HOST_WITHOUT_BARRIER, one by one, all that there are.

use super::cuda_host;
use super::mistakes::{
    BARRIERS,
    Change::{Gone, To},
    MISTAKES, Mistake,
};
use super::skip::skipped;
use super::trial::{Outcome, all, run, with_changes};
use std::fmt::Write;

/// The place of the `nth` `part` of `text`.
fn place(text: &str, part: &str, nth: usize) -> Option<usize> {
    text.match_indices(part).nth(nth).map(|(at, _)| at)
}

/// `text` of `file` with its mistakes, each under its condition; mistake i has number i + 1.
fn with_mistakes(file: &str, mut text: String) -> String {
    for (i, Mistake(of, nth, right, change, _)) in MISTAKES.iter().enumerate() {
        if *of != file {
            continue;
        }
        let at = place(&text, right, *nth).unwrap_or_else(|| {
            panic!("kernels/{file} has no {right:?} number {nth} any more: name another mistake in its place")
        });
        let number = i + 1;
        let both = match change {
            Gone => format!("if (!cuda_host::fault({number})) {{ {right} }}"),
            // A whole condition of an if.
            To(wrong) if right.starts_with("if (") => {
                let (condition, rest) = right["if (".len()..].split_once(") ").unwrap();
                let (wrong, _) = wrong["if (".len()..].split_once(") ").unwrap();
                format!("if (cuda_host::fault({number}) ? ({wrong}) : ({condition})) {rest}")
            }
            To(wrong) => format!("(cuda_host::fault({number}) ? ({wrong}) : ({right}))"),
        };
        text.replace_range(at..at + right.len(), &both);
    }
    text
}

#[test]
fn mistakes_in_kernels_make_tests_fail() {
    if cuda_host::real() {
        return skipped("mistakes in kernels: they run on the stand-in alone");
    }
    let folder = match with_changes(with_mistakes) {
        Ok(folder) => folder,
        Err(why) => return skipped(format_args!("mistakes in kernels: {why}")),
    };
    let mut tests: Vec<&str> = MISTAKES.iter().map(|mistake| mistake.4).collect();
    tests.sort_unstable();
    tests.dedup();
    for (test, outcome) in tests.iter().zip(all(&tests, |test| run(&folder, test, ("CUDA_HOST_FAULT", "0"))))
    {
        assert!(matches!(outcome, Outcome::Passed), "{test} without a mistake: {outcome:?}");
    }
    let numbers: Vec<usize> = (0..MISTAKES.len()).collect();
    let outcomes = all(&numbers, |&i| run(&folder, MISTAKES[i].4, ("CUDA_HOST_FAULT", &(i + 1).to_string())));
    let mut survivors = String::new();
    for (Mistake(file, nth, right, change, test), outcome) in MISTAKES.iter().zip(&outcomes) {
        if matches!(outcome, Outcome::Passed) {
            let wrong = if let To(wrong) = change { wrong } else { "nothing" };
            writeln!(survivors, "{file}: {wrong:?} for {right:?} number {nth} passes {test}").unwrap();
        }
    }
    assert!(survivors.is_empty(), "{survivors}");
}

#[test]
fn without_any_one_barrier_a_test_fails() {
    if cuda_host::real() {
        return skipped("barriers: they are taken away on the stand-in alone");
    }
    let folder = match cuda_host::folder() {
        Ok(folder) => folder,
        Err(why) => return skipped(format_args!("barriers: {why}")),
    };
    for entry in ["kernels", "kernels/common"].iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let file = path.strip_prefix("kernels").unwrap().to_str().unwrap();
        let holds = path.is_file() && std::fs::read_to_string(&path).unwrap().contains("__syncthreads()");
        assert!(!holds || BARRIERS.iter().any(|&(of, _)| of == file), "name the tests of {file} in BARRIERS");
    }
    let mut barriers = Vec::new();
    for (file, tests) in BARRIERS {
        let text = std::fs::read_to_string(format!("kernels/{file}")).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| line.contains("__syncthreads()"));
        barriers.extend(lines.map(|(i, _)| (file, i + 1, tests)));
    }
    let outcomes = all(&barriers, |(file, line, tests)| {
        let place = format!("{}:{line}", file.trim_start_matches("common/"));
        let passes = |test: &&str| {
            matches!(run(&folder, test, ("CUDA_HOST_WITHOUT_BARRIER", &place)), Outcome::Passed)
        };
        tests.iter().all(passes)
    });
    let passed: Vec<String> = barriers
        .iter()
        .zip(outcomes)
        .filter(|(_, passed)| *passed)
        .map(|((file, line, _), _)| format!("{file}:{line}"))
        .collect();
    assert!(passed.is_empty(), "no test needs the barriers at {passed:?}");
}
