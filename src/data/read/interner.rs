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
            Some(short) => self.short.slot(short, self.hasher.hash_one(short)).1,
            None => self.find_long(id, self.hasher.hash_one(id)),
        }
    }

    fn find_long(&self, id: &str, hash: u64) -> Option<u32> {
        self.long.find(hash, |&number| text_of(&self.text, &self.ends, number) == id).copied()
    }

    /// The number of `id`, which gets the next one if it has none; `None` once 2³² − 1 numbers are taken.
    pub(super) fn number(&mut self, id: &str) -> Option<u32> {
        if let Some(short) = ShortId::of(id) {
            return self.number_short(short, self.hasher.hash_one(short));
        }
        let hash = self.hasher.hash_one(id);
        if let Some(number) = self.find_long(id, hash) {
            return Some(number);
        }
        let next = self.next_number()?;
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        // The new text is not stored yet; growth asks only for the hashes of the others.
        self.long.insert_unique(hash, next, |&number| hasher.hash_one(text_of(text, ends, number)));
        self.store(id);
        Some(next)
    }

    fn number_short(&mut self, id: ShortId, hash: u64) -> Option<u32> {
        let at = match self.short.slot(id, hash) {
            (_, Some(number)) => return Some(number),
            (at, None) => at,
        };
        let next = self.next_number()?;
        self.short.insert(at, Slot { id, number: next }, &self.hasher);
        self.store(&id.text());
        Some(next)
    }

    fn next_number(&self) -> Option<u32> {
        u32::try_from(self.ends.len()).ok().filter(|&next| next < u32::MAX)
    }

    fn store(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
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

/// A column of ids as dense numbers.
///
/// Short ids are looked up some at a time: the accesses to memory of one do not wait for those of the one before.
#[derive(Debug, Default)]
pub(super) struct IdColumn {
    ids: Interner,
    numbers: Vec<u32>,
    /// The ids of the rows that have no number yet.
    waiting: Vec<ShortId>,
}

/// Look-ups that a core can have under way, and more.
const TOGETHER: usize = 32;

impl IdColumn {
    /// Adds a row; `None` once 2³² − 1 numbers are taken.
    pub(super) fn push(&mut self, id: &str) -> Option<()> {
        match ShortId::of(id) {
            Some(short) => {
                self.waiting.push(short);
                if self.waiting.len() < TOGETHER { Some(()) } else { self.look_up() }
            }
            None => {
                self.look_up()?;
                self.numbers.push(self.ids.number(id)?);
                Some(())
            }
        }
    }

    /// Gives the waiting rows their numbers.
    fn look_up(&mut self) -> Option<()> {
        let mut hashes = [0; TOGETHER];
        let mut touched = 0u32;
        for (hash, &id) in hashes.iter_mut().zip(&self.waiting) {
            *hash = self.ids.hasher.hash_one(id);
            touched ^= self.ids.short.first_number(*hash);
        }
        // Only that the slots are in the cache is wanted of them.
        std::hint::black_box(touched);
        for (&id, hash) in self.waiting.iter().zip(hashes) {
            self.numbers.push(self.ids.number_short(id, hash)?);
        }
        self.waiting.clear();
        Some(())
    }

    /// The ids and the number of each row; `None` as [`IdColumn::push`].
    pub(super) fn finish(mut self) -> Option<(Interner, Vec<u32>)> {
        self.look_up()?;
        Some((self.ids, self.numbers))
    }
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

    fn text(self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        // It was made of a text, so nothing is replaced.
        String::from_utf8_lossy(&bytes[..usize::from(bytes[15])]).into_owned()
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
    /// The number that stands where a look-up of `hash` begins.
    fn first_number(&self, hash: u64) -> u32 {
        self.slots[hash as usize & (self.slots.len() - 1)].number
    }

    /// The slot that holds `id`, with its number, or the free one where it belongs.
    fn slot(&self, id: ShortId, hash: u64) -> (usize, Option<u32>) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.slots[at] {
                slot if slot.number == u32::MAX => return (at, None),
                slot if slot.id == id => return (at, Some(slot.number)),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Takes the free slot `at`.
    fn insert(&mut self, at: usize, slot: Slot, hasher: &DefaultHashBuilder) {
        self.slots[at] = slot;
        self.used += 1;
        if 2 * self.used > self.slots.len() {
            self.grow(hasher);
        }
    }

    fn grow(&mut self, hasher: &DefaultHashBuilder) {
        let larger = vec![FREE; 2 * self.slots.len()];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.number != u32::MAX {
                let (at, _) = self.slot(slot.id, hasher.hash_one(slot.id));
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
        assert!(interner.into_texts().eq(ids.map(String::from)));
    }

    #[test]
    fn a_column_has_the_numbers_that_its_ids_have_one_by_one() {
        let id = |i: usize| {
            format!("ü{}{}", i * i % 997, if i.is_multiple_of(50) { "-and-long-enough" } else { "" })
        };
        for rows in [0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 5000] {
            let (mut column, mut interner) = (IdColumn::default(), Interner::default());
            (0..rows).for_each(|i| column.push(&id(i)).unwrap());
            let one_by_one: Vec<u32> = (0..rows).map(|i| interner.number(&id(i)).unwrap()).collect();
            let (ids, numbers) = column.finish().unwrap();
            assert_eq!(numbers, one_by_one, "{rows}");
            assert!(ids.into_texts().eq(interner.into_texts()));
        }
    }
}
