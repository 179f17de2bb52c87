//! What is made once for each device from something that lives on the host, and kept beside it.

use std::sync::{Arc, Mutex};

type Made<D, T> = Vec<(D, Arc<T>)>;

/// A value for each device that asked for one. Clones share the values.
pub(super) struct PerDevice<D, T>(Arc<Mutex<Made<D, T>>>);

impl<D, T> Clone for PerDevice<D, T> {
    fn clone(&self) -> Self {
        PerDevice(self.0.clone())
    }
}

impl<D, T> Default for PerDevice<D, T> {
    fn default() -> Self {
        PerDevice(Arc::default())
    }
}

impl<D, T> std::fmt::Debug for PerDevice<D, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PerDevice")
    }
}

impl<D: Clone + PartialEq, T: Default> PerDevice<D, T> {
    /// The value of `device`.
    pub fn on(&self, device: &D) -> Arc<T> {
        let mut made = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, found)) = made.iter().find(|(other, _)| other == device) {
            return found.clone();
        }
        made.push((device.clone(), Arc::default()));
        made.last().expect("just pushed").1.clone()
    }
}
