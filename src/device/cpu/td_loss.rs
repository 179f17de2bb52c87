//! Squared temporal-difference errors, forward and backward. Bound by memory.

use super::Float;
use super::map::{Map, map};

#[derive(Clone, Copy)]
struct Loss;

impl<T: Float> Map<T, 2> for Loss {
    #[inline(always)]
    fn at<const FMA: bool>(self, [q, target]: [T; 2]) -> T {
        T::of(0.5) * (target - q) * (target - q)
    }
}

#[derive(Clone, Copy)]
struct Slope;

impl<T: Float> Map<T, 3> for Slope {
    #[inline(always)]
    fn at<const FMA: bool>(self, [q, target, grad]: [T; 3]) -> T {
        grad * (q - target)
    }
}

/// loss = ½(target − q)², element by element.
pub fn forward<T: Float>(q: &[T], targets: &[T], losses: &mut [T]) {
    map(Loss, [q, targets], losses);
}

/// dq = grad·(q − target), element by element.
pub fn backward<T: Float>(q: &[T], targets: &[T], grad: &[T], dq: &mut [T]) {
    map(Slope, [q, targets, grad], dq);
}
