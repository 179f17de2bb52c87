//! Many mutations of one file for one reader, and what the reader owes for each.

use super::allocation;
use super::{Kind, Mutator};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The bytes that a reader may allocate: `factor` times the file's size and `constant` beyond.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Allocated bytes a byte of the file.
    pub factor: usize,
    /// Allocated bytes beyond, such as buffers of fixed size.
    pub constant: usize,
}

/// How many mutations were read and how many refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Mutations that the reader took.
    pub read: usize,
    /// Mutations that it refused with a message.
    pub refused: usize,
}

/// Gives `read` `count` mutations of `file`, number n made with the seed n. Each must end without a panic, within
/// `bound`, and in success or an error of the form "where: what; remedy".
///
/// # Panics
/// At the first mutation for which that fails; its bytes are then left in the temporary folder.
pub fn run(
    name: &str,
    kind: Kind,
    file: &[u8],
    count: u64,
    bound: Bound,
    mut read: impl FnMut(&[u8]) -> lea::Result<()>,
) -> Outcome {
    let mut outcome = Outcome { read: 0, refused: 0 };
    for seed in 0..count {
        let mutation = Mutator::new(seed).mutate(kind, file);
        let fail = |what: String| -> ! {
            let place = std::env::temp_dir().join(format!("mutation-{name}-{seed}"));
            let _ = std::fs::write(&place, &mutation);
            panic!("{name}, mutation {seed} (left in {}): {what}", place.display());
        };
        let (result, peak) = allocation::peak(|| {
            catch_unwind(AssertUnwindSafe(|| read(&mutation).map_err(|e| e.to_string())))
        });
        let allowed = bound.factor * mutation.len() + bound.constant;
        if peak > allowed {
            fail(format!("{peak} bytes allocated for {} bytes, {allowed} allowed", mutation.len()));
        }
        match result {
            Err(_) => fail("the reader panicked".into()),
            Ok(Ok(())) => outcome.read += 1,
            Ok(Err(message)) => {
                let told = message.rsplit_once("; ").is_some_and(|(what, remedy)| {
                    what.len() > 10 && !remedy.trim().is_empty() && !message.trim().is_empty()
                });
                if !told {
                    fail(format!("no message that says where, what and what to do: {message:?}"));
                }
                outcome.refused += 1;
            }
        }
    }
    outcome
}
