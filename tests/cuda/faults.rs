//! What a kernel must not do is reported, each with the message that names it: `tests/cuda_host/faulty.cu` does all of it.

use super::cuda_host;
use super::skip::skipped;
use super::trial::{Outcome, run, with_changes};

/// The faults by number, and what is told of them.
const FAULTS: [(u32, &str, &str); 22] = [
    (1, "a barrier in each branch of a condition", "threads of one block wait at different barriers"),
    (2, "a barrier beside an operation of the warp", "waits for the rest of its warp"),
    (3, "a shuffle of five lanes", "waits for the rest of its warp"),
    (4, "a shuffle and a ballot in one warp", "lanes of one warp are at different operations"),
    (5, "a misaligned read of four elements", "is no multiple of 16"),
    (6, "a misaligned write of four elements", "is no multiple of 16"),
    (7, "a read behind global memory", "illegal access"),
    (8, "a write behind global memory", "illegal access"),
    (9, "a read ahead of global memory", "illegal access"),
    (10, "a write ahead of global memory", "beside an allocation"),
    (11, "a write of the element behind global memory", "beside an allocation"),
    (12, "a read behind dynamic shared memory", "illegal access"),
    (13, "a write behind dynamic shared memory", "illegal access"),
    (14, "a read behind an array in shared memory", "out of bounds for type"),
    (15, "a write behind an array in shared memory", "out of bounds for type"),
    (16, "a null pointer", "null pointer"),
    (17, "a misaligned asynchronous copy", "is no multiple of 16"),
    (18, "an asynchronous copy that nobody waits for", "ended with copies that nobody waited for"),
    // These show in the numbers: shared memory and outputs are NaN at first.
    (19, "a read of shared memory before any write", "error inf"),
    (20, "a read of the next thread's value without a barrier", "error inf"),
    (21, "a read of the last thread's value without a barrier", "error inf"),
    (22, "an output that is not written", "error inf"),
];

#[test]
fn what_a_kernel_must_not_do_is_reported() {
    if cuda_host::real() {
        return skipped("faulty kernels: they run on the stand-in alone");
    }
    let folder = match with_changes(|file, text| match file {
        "scale.cu" => include_str!("../cuda_host/faulty.cu").to_string(),
        _ => text,
    }) {
        Ok(folder) => folder,
        Err(why) => return skipped(format_args!("faulty kernels: {why}")),
    };
    let trial = |number: u32| run(&folder, "ops::elements::scale", ("CUDA_HOST_FAULT", &number.to_string()));
    assert!(matches!(trial(0), Outcome::Passed), "without a fault: {:?}", trial(0));
    let sanitized = cuda_host::sanitized(&folder);
    if !sanitized {
        skipped("faults of arrays and null pointers: g++ has no sanitizer of undefined behaviour here");
    }
    for (number, what, message) in FAULTS {
        if (14..=16).contains(&number) && !sanitized {
            continue;
        }
        match trial(number) {
            Outcome::Failed(text) => assert!(text.contains(message), "{what}: not {message:?} but {text}"),
            other => panic!("{what}: {other:?}, not {message:?}"),
        }
    }
}
