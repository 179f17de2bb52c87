//! c·x. Bound by memory: one read and one write an element.

use super::Float;
use super::map::Map;

/// The factor c.
#[derive(Clone, Copy)]
pub struct Scale<T>(pub T);

impl<T: Float> Map<T, 1> for Scale<T> {
    #[inline(always)]
    fn at<const FMA: bool>(self, [x]: [T; 1]) -> T {
        self.0 * x
    }
}
