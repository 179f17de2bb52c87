//! Counting the work of a section: FLOPs and bytes of the ops that it applied.

use crate::ops::Cost;
use std::cell::Cell;

thread_local! {
    static TOTAL: Cell<Option<Cost>> = const { Cell::new(None) };
}

/// Runs `f` and adds up the [`Cost`] of every op that it applies forward on this thread.
pub fn count<R>(f: impl FnOnce() -> R) -> (R, Cost) {
    let outer = TOTAL.replace(Some(Cost::default()));
    let result = f();
    let own = TOTAL.replace(outer).unwrap_or_default();
    add(|| own);
    (result, own)
}

pub(super) fn add(cost: impl FnOnce() -> Cost) {
    if let Some(total) = TOTAL.get() {
        let cost = cost();
        TOTAL.set(Some(Cost { flops: total.flops + cost.flops, bytes: total.bytes + cost.bytes }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Var, apply, gradcheck};
    use crate::ops::Matmul;

    #[test]
    fn nested_sections_count_once_each() {
        let (a, b) =
            (Var::constant(gradcheck::random(&[3, 4], 1)), Var::constant(gradcheck::random(&[4, 5], 2)));
        let product = || apply(Matmul::default(), &[&a, &b]).unwrap();
        let ((_, inner), outer) = count(|| {
            product();
            count(product)
        });
        assert_eq!(inner.flops, 2 * 3 * 4 * 5);
        assert_eq!(outer.flops, 2 * inner.flops);
    }
}
