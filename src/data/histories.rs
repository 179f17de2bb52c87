//! Where the events of users come from: a data set in memory, or the table of an imported folder.

use super::dataset::{Dataset, Event};
use crate::Result;
use std::borrow::Cow;

/// The users of a data set, by number.
pub trait Histories: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// The events of `user`, below [`Histories::count`]; oldest first, never none.
    ///
    /// # Errors
    /// A table that cannot be read, or that was changed since it was opened.
    fn events(&self, user: u32) -> Result<Cow<'_, [Event]>>;

    /// The id that the source uses for `user`.
    ///
    /// # Errors
    /// As [`Histories::events`].
    fn id(&self, user: u32) -> Result<String>;

    /// [`Dataset::interactions_hash`] of the data set.
    fn interactions_hash(&self) -> String;
}

impl Histories for Dataset {
    fn count(&self) -> usize {
        self.users.len()
    }

    fn events(&self, user: u32) -> Result<Cow<'_, [Event]>> {
        Ok(Cow::Borrowed(&self.users[user as usize].events))
    }

    fn id(&self, user: u32) -> Result<String> {
        Ok(self.users[user as usize].id.clone())
    }

    fn interactions_hash(&self) -> String {
        Dataset::interactions_hash(self)
    }
}
