//! What a frozen weight is kept as beside its elements: the panels that products read, made by the first of them.
//!
//! Packing takes as long as a product of some tens of rows, and passes of a few hundred rows are common. All together take
//! no more than [`MOST`] bytes; what goes beyond is packed for each product.

use super::packed::Panels;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Most bytes of all panels that are kept.
pub const MOST: usize = 1 << 30;
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Panels of one weight, if they were made and there was room.
#[derive(Debug, Default)]
pub struct Kept(OnceLock<Of>);

#[derive(Debug)]
struct Of {
    /// [n, k] of the weight.
    shape: [usize; 2],
    panels: Arc<Panels>,
}

impl Kept {
    /// Panels of the weight of that shape, which `pack` makes.
    pub fn panels(&self, shape: [usize; 2], pack: impl FnOnce() -> Panels) -> Arc<Panels> {
        match self.0.get() {
            Some(of) if of.shape == shape => of.panels.clone(),
            Some(_) => Arc::new(pack()),
            None => {
                let panels = Arc::new(pack());
                let of = Of { shape, panels: panels.clone() };
                if take(panels.bytes()) && self.0.set(of).is_err() {
                    BYTES.fetch_sub(panels.bytes(), Ordering::Relaxed);
                }
                panels
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(of) = self.0.get() {
            BYTES.fetch_sub(of.panels.bytes(), Ordering::Relaxed);
        }
    }
}

/// Whether there was room for so many bytes more, which are taken then.
fn take(bytes: usize) -> bool {
    let more = |now: usize| now.checked_add(bytes).filter(|&all| all <= MOST);
    BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panels(n: usize, depth: usize) -> Panels {
        Panels::fill(n, depth, |_, _, panel| panel.fill(7))
    }

    #[test]
    fn they_are_made_once_for_a_shape_and_their_bytes_come_back() {
        let kept = Kept::default();
        let first = kept.panels([3, 8], || panels(3, 4));
        let again = kept.panels([3, 8], || unreachable!("they are there"));
        assert!(Arc::ptr_eq(&first, &again));
        let other = kept.panels([4, 6], || panels(4, 3));
        assert!((other.n, other.depth) == (4, 3));
        assert!(BYTES.load(Ordering::Relaxed) >= first.bytes());
        assert!(!take(MOST));
    }
}
