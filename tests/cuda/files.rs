//! What is checked in under `kernels/ptx`.

use super::skip;
use lea::device::cuda::PTX;

#[test]
fn ptx_was_made_from_the_sources_of_today() {
    assert!(!PTX.is_empty());
    let stale: Vec<&str> = PTX.iter().filter(|ptx| ptx.made_from != ptx.source).map(|ptx| ptx.name).collect();
    assert!(stale.is_empty(), "run scripts/ptx: the PTX of {stale:?} is older than its sources");
}

#[test]
fn every_source_has_ptx_for_all_gpus_that_it_is_for() {
    let Ok(entries) = std::fs::read_dir("kernels") else {
        return skip::skipped("every_source_has_ptx: the folder kernels/ of the source is not here");
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "cu") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            // A second generation of an op, for one architecture alone, has its first in another file.
            let text = std::fs::read_to_string(&path).unwrap();
            let only = text.lines().any(|line| line == "// arch: sm_90a");
            let capability = if only { 90 } else { 80 };
            let found =
                PTX.iter().any(|ptx| (ptx.name, ptx.capability, ptx.only) == (name, capability, only));
            assert!(found, "run scripts/ptx: {name} has none");
        }
    }
}
