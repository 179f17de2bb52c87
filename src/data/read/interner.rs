//! Ids as dense numbers: each text is stored once, all of them in one string.
//!
//! A log names its users and items in no order that a cache could follow, so a look-up costs what its memory accesses
//! cost. Ids of up to 15 bytes, nearly all there are, therefore stand in the hash table themselves: one access.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Texts numbered 0, 1, 2 … in the order in which they came first.
#[derive(Debug, Default)]
pub(super) struct Interner {
    text: String,
    /// Where each text ends.
    ends: Vec<usize>,
    short: ShortIds,
    /// Numbers of the texts that are not short.
    long: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    /// How many texts there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of `id`, if it has one.
    pub(super) fn find(&self, id: &str) -> Option<u32> {
        match ShortId::of(id) {
            Some(short) => self.short.find(short, self.hasher.hash_one(short)),
            None => self.find_long(id, self.hasher.hash_one(id)),
        }
    }

    fn find_long(&self, id: &str, hash: u64) -> Option<u32> {
        self.long.find(hash, |&number| text_of(&self.text, &self.ends, number) == id).copied()
    }

    /// The number of `id`, which gets the next one if it has none; `None` once 2³² − 1 numbers are taken.
    pub(super) fn number(&mut self, id: &str) -> Option<u32> {
        let next = u32::try_from(self.ends.len()).ok().filter(|&next| next < u32::MAX)?;
        if let Some(short) = ShortId::of(id) {
            if let Some(number) = self.short.find_or_insert(short, next, &self.hasher) {
                return Some(number);
            }
        } else {
            let hash = self.hasher.hash_one(id);
            if let Some(number) = self.find_long(id, hash) {
                return Some(number);
            }
            let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
            // The new text is not stored yet; growth asks only for the hashes of the others.
            self.long.insert_unique(hash, next, |&number| hasher.hash_one(text_of(text, ends, number)));
        }
        self.text.push_str(id);
        self.ends.push(self.text.len());
        Some(next)
    }

    /// The texts in the order of their numbers.
    pub(super) fn into_texts(self) -> impl Iterator<Item = String> {
        let mut start = 0;
        self.ends.into_iter().map(move |end| {
            let text = self.text[start..end].to_string();
            start = end;
            text
        })
    }
}

fn text_of<'a>(text: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &text[start..ends[number]]
}

/// A text of up to 15 bytes, with its length in the 16th.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ShortId([u32; 4]);

impl ShortId {
    fn of(id: &str) -> Option<Self> {
        let mut bytes = [0u8; 16];
        bytes.get_mut(..id.len()).filter(|_| id.len() < 16)?.copy_from_slice(id.as_bytes());
        bytes[15] = id.len() as u8;
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Some(ShortId([word(0), word(4), word(8), word(12)]))
    }
}

/// A hash table with the ids in it: open addressing, linear probing, at most half full.
#[derive(Debug)]
struct ShortIds {
    slots: Vec<Slot>,
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    id: ShortId,
    /// `u32::MAX` if the slot is free.
    number: u32,
}

const FREE: Slot = Slot { id: ShortId([0; 4]), number: u32::MAX };

impl Default for ShortIds {
    fn default() -> Self {
        ShortIds { slots: vec![FREE; 64], used: 0 }
    }
}

impl ShortIds {
    /// The slot that holds `id`, or the free one where it belongs.
    fn slot(&self, id: ShortId, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].number != u32::MAX && self.slots[at].id != id {
            at = (at + 1) & mask;
        }
        at
    }

    fn find(&self, id: ShortId, hash: u64) -> Option<u32> {
        Some(self.slots[self.slot(id, hash)].number).filter(|&number| number != u32::MAX)
    }

    /// The number of `id`, or `None` after it got `next`.
    fn find_or_insert(&mut self, id: ShortId, next: u32, hasher: &DefaultHashBuilder) -> Option<u32> {
        let at = self.slot(id, hasher.hash_one(id));
        if self.slots[at].number != u32::MAX {
            return Some(self.slots[at].number);
        }
        self.slots[at] = Slot { id, number: next };
        self.used += 1;
        if 2 * self.used > self.slots.len() {
            self.grow(hasher);
        }
        None
    }

    fn grow(&mut self, hasher: &DefaultHashBuilder) {
        let larger = vec![FREE; 2 * self.slots.len()];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.number != u32::MAX {
                let at = self.slot(slot.id, hasher.hash_one(slot.id));
                self.slots[at] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_in_the_order_of_first_sight_and_survive_growth() {
        let mut interner = Interner::default();
        // A third of them too long to be short.
        let id = |i: usize| {
            format!("id{}{}", i * 7 % 5000, if i.is_multiple_of(3) { "-and-long-enough" } else { "" })
        };
        let ids: Vec<String> = (0..5000).map(id).collect();
        for round in 0..2 {
            for (number, id) in ids.iter().enumerate() {
                assert_eq!(interner.number(id), Some(number as u32), "{round}");
            }
        }
        assert!(ids.iter().enumerate().all(|(number, id)| interner.find(id) == Some(number as u32)));
        assert_eq!((interner.find("id"), interner.find(""), interner.len()), (None, None, 5000));
        assert!(interner.into_texts().eq(ids));
    }

    #[test]
    fn ids_that_differ_in_zeros_or_at_the_limit_of_short_ones_are_told_apart() {
        let ids = [
            "",
            "\0",
            "\0\0",
            "a",
            "a\0",
            &"x".repeat(14),
            &"x".repeat(15),
            &"x".repeat(16),
            &"x".repeat(17),
        ];
        let mut interner = Interner::default();
        for round in 0..2 {
            for (number, id) in ids.iter().enumerate() {
                assert_eq!(interner.number(id), Some(number as u32), "{round}: {id:?}");
            }
        }
    }
}
