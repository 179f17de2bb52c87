//! Ids as dense numbers: each text is stored once, all of them in one string.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Texts numbered 0, 1, 2 … in the order in which they came first.
#[derive(Debug, Default)]
pub(super) struct Interner {
    text: String,
    places: Vec<Place>,
    numbers: HashTable<Place>,
    hasher: DefaultHashBuilder,
}

/// Where a text stands, and its number: with both in the hash table a look-up reads no third place.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    bytes: u32,
    number: u32,
}

impl Place {
    fn of(self, text: &str) -> &str {
        &text[self.start..self.start + self.bytes as usize]
    }
}

impl Interner {
    /// How many texts there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The number of `id`, if it has one.
    pub(super) fn find(&self, id: &str) -> Option<u32> {
        let same = |place: &Place| place.of(&self.text) == id;
        self.numbers.find(self.hasher.hash_one(id), same).map(|place| place.number)
    }

    /// The number of `id`, which gets the next one if it has none; `None` once 2³² numbers are taken, or for a text
    /// of 4 GiB.
    pub(super) fn number(&mut self, id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        if let Some(place) = self.numbers.find(hash, |place| place.of(&self.text) == id) {
            return Some(place.number);
        }
        let number = u32::try_from(self.places.len()).ok()?;
        let place = Place { start: self.text.len(), bytes: u32::try_from(id.len()).ok()?, number };
        self.text.push_str(id);
        self.places.push(place);
        let (text, hasher) = (&self.text, &self.hasher);
        self.numbers.insert_unique(hash, place, |place| hasher.hash_one(place.of(text)));
        Some(number)
    }

    /// The texts in the order of their numbers.
    pub(super) fn into_texts(self) -> impl Iterator<Item = String> {
        self.places.into_iter().map(move |place| place.of(&self.text).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_in_the_order_of_first_sight_and_survive_growth() {
        let mut interner = Interner::default();
        let ids: Vec<String> = (0..5000).map(|i| format!("id{}", i * 7 % 5000)).collect();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(interner.number(id), Some(number as u32));
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!((interner.number(id), interner.find(id)), (Some(number as u32), Some(number as u32)));
        }
        assert_eq!((interner.find("id"), interner.find("")), (None, None));
        assert_eq!(interner.len(), 5000);
        assert!(interner.into_texts().eq(ids));
    }
}
