//! Running a library that panics at some contents of a file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic on this thread is expected, and is told otherwise.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns; `None` where it panicked, of which nothing is printed.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    GUARDED.set(outer);
    result
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_inside_is_nothing_and_the_thread_goes_on() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| [1, 2][guarded(|| 5usize).unwrap()]), None);
        assert_eq!(guarded(|| 4), Some(4));
    }
}
