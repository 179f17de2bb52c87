//! What the host knows of the ids in a device's buffer, so that checking them, or sorting by them, needs no read-back.

use std::sync::Arc;

/// A number that all ids but missing ones of a search, `u32::MAX`, stay below, and the ids themselves where they came from the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownIds {
    bound: Option<u32>,
    ids: Option<Arc<[u32]>>,
}

impl KnownIds {
    /// Of ids that the host has.
    pub fn of(ids: &[u32]) -> Self {
        let bound = ids.iter().max().map_or(0, |id| id.saturating_add(1));
        KnownIds { bound: Some(bound), ids: Some(ids.into()) }
    }

    /// Of ids that a kernel made, all below `bound` or missing.
    pub fn below(bound: u32) -> Self {
        KnownIds { bound: Some(bound), ids: None }
    }

    /// Of ids `offset..offset + len` alone.
    pub fn part(&self, offset: usize, len: usize) -> Self {
        let ids = self.ids.as_ref().map(|ids| ids[offset..offset + len].into());
        KnownIds { bound: self.bound, ids }
    }

    /// All ids are below this or missing, where the host knows such a number.
    pub fn bound(&self) -> Option<u32> {
        self.bound
    }

    /// The ids, where they came from the host.
    pub fn ids(&self) -> Option<&[u32]> {
        self.ids.as_deref()
    }
}
