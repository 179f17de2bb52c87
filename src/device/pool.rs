//! Memory of a device: what waits for reuse, by size, and how much all of it may be.

use crate::Error;
pub(super) use crate::error::MEMORY_REMEDY as REMEDY;
use crate::error::told_bytes;
use std::collections::BTreeMap;

/// Free memory by size and number, as handles `M`, and a count of all that was made.
#[derive(Debug)]
pub(super) struct Pool<M> {
    free: BTreeMap<u64, BTreeMap<u64, M>>,
    /// Bytes of the free ones.
    waiting: u64,
    /// Bytes of all that were made and not given back to the driver.
    held: u64,
    limit: Option<u64>,
}

impl<M> Default for Pool<M> {
    fn default() -> Self {
        Pool { free: BTreeMap::new(), waiting: 0, held: 0, limit: None }
    }
}

impl<M> Pool<M> {
    /// The smallest free memory of at least that size that is usable, but none of more than twice as much. Of equals the
    /// one with the lowest number, whatever was freed last: work that is done again then gets the same memory again, and bind
    /// groups that name it are found.
    pub fn take(&mut self, bytes: u64, usable: impl Fn(&M) -> bool) -> Option<M> {
        let mut sizes = self.free.range_mut(bytes..=2 * bytes);
        let (size, found) = sizes.find_map(|(&size, free)| {
            let number = *free.iter().find(|(_, memory)| usable(memory))?.0;
            Some((size, free.remove(&number)?))
        })?;
        self.waiting -= size;
        Some(found)
    }

    /// Takes back memory of that size; no other that waits has its number.
    pub fn give(&mut self, bytes: u64, number: u64, memory: M) {
        self.waiting += bytes;
        self.free.entry(bytes).or_default().insert(number, memory);
    }

    /// Whether more than `most` bytes would wait with `bytes` more.
    pub fn is_full(&self, bytes: u64, most: u64) -> bool {
        self.waiting + bytes > most
    }

    /// Takes out all that waits, and counts it no longer: it goes back to the driver.
    pub fn empty(&mut self) -> Vec<M> {
        self.release(self.waiting);
        self.waiting = 0;
        std::mem::take(&mut self.free).into_values().flat_map(BTreeMap::into_values).collect()
    }

    /// Counts `bytes` that are about to be made, unless that is more than is allowed.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let allowed = self.limit.is_none_or(|limit| self.held.saturating_add(bytes) <= limit);
        if allowed {
            self.held += bytes;
        }
        allowed
    }

    /// Counts `bytes` no longer.
    pub fn release(&mut self, bytes: u64) {
        self.held -= bytes;
    }

    /// Allows `bytes` together, those that wait included.
    pub fn set_limit(&mut self, bytes: u64) {
        self.limit = Some(bytes);
    }

    /// Bytes made and not given back to the driver.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Bytes that wait for reuse.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether a limit forbids `bytes` more beside what is in use.
    pub fn forbids(&self, bytes: u64) -> bool {
        self.limit.is_some_and(|limit| !self.would_fit(bytes, limit))
    }

    /// Whether `bytes` more beside what is in use are `all` at most.
    pub fn would_fit(&self, bytes: u64, all: u64) -> bool {
        self.in_use().saturating_add(bytes) <= all
    }

    fn in_use(&self) -> u64 {
        self.held - self.waiting
    }

    /// `what` needs `bytes` that `device` does not have: for the limit, else for a reason that the driver gives.
    pub fn shortage(&self, device: &impl std::fmt::Display, what: &str, bytes: u64, driver: &str) -> Error {
        let end = match self.limit {
            Some(limit) if self.forbids(bytes) => format!("{} are allowed", told_bytes(limit)),
            _ => driver.into(),
        };
        let in_use = told_bytes(self.in_use());
        let problem = format!("{what} needs {} beside the {in_use} in use, and {end}", told_bytes(bytes));
        let (device, remedy) = (device.to_string(), REMEDY.into());
        Error::DeviceMemory { device, problem, needed: Some(bytes), limit: self.limit, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_where_it_is_not_much_too_large_and_usable() {
        let mut pool = Pool::default();
        for (bytes, handle) in [(64, 'c'), (96, 'b'), (64, 'a'), (400, 'd')] {
            assert!(pool.reserve(bytes));
            pool.give(bytes, handle as u64, handle);
        }
        assert_eq!(pool.take(50, |_| true), Some('a'), "the first of the smallest");
        assert_eq!(pool.take(50, |&handle| handle != 'c'), Some('b'));
        assert_eq!(pool.take(199, |_| true), None, "400 bytes are more than twice as much");
        assert_eq!((pool.held(), pool.waiting()), (624, 464));
        assert_eq!(pool.empty(), ['c', 'd']);
        assert_eq!((pool.held(), pool.waiting()), (160, 0));
    }

    #[test]
    fn a_limit_counts_what_waits_until_that_is_given_back() {
        let mut pool = Pool::default();
        pool.set_limit(100);
        assert!(pool.reserve(60) && !pool.reserve(41));
        pool.give(60, 1, ());
        assert!(!pool.reserve(41) && !pool.forbids(100) && pool.forbids(101));
        let message = pool.shortage(&"cuda:0", "a tensor", 101, "unused").to_string();
        assert!(
            message.contains("a tensor needs 101 bytes beside the 0 bytes in use, and 100 bytes are allowed"),
            "{message}"
        );
        let message = pool.shortage(&"cuda:0", "a tensor", 99, "there is no more").to_string();
        assert!(message.contains("there is no more"), "{message}");
        pool.empty();
        assert!(pool.reserve(100));
    }
}
