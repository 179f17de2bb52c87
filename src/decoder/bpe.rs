//! Byte-level byte-pair encoding learned from texts (Sennrich et al., arXiv 1508.07909).
//!
//! The merges depend on pair counts alone, ties going to the pair of smaller ids, so that the same texts give the
//! same vocabulary on every machine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

type Pair = (u32, u32);

/// A learned vocabulary: token strings by id (first the specials, then the alphabet) and merges in order.
pub(super) struct Learned {
    pub tokens: Vec<String>,
    pub merges: Vec<(String, String)>,
}

/// A pair must occur this often to become a token.
const LEAST_COUNT: u64 = 2;

/// Learns merges until there are `vocab_size` tokens or no pair occurs twice. `words` maps a word, written in
/// characters of `alphabet`, to its number of occurrences.
pub(super) fn learn(
    words: &BTreeMap<String, u64>,
    specials: &[&str],
    alphabet: &BTreeSet<char>,
    vocab_size: usize,
) -> Learned {
    let letters = alphabet.iter().map(char::to_string);
    let tokens: Vec<String> = specials.iter().map(|s| s.to_string()).chain(letters).collect();
    let id_of: HashMap<char, u32> = alphabet.iter().copied().zip(specials.len() as u32..).collect();
    let split = |word: &String| word.chars().filter_map(|c| id_of.get(&c).copied()).collect();
    let words = words.iter().map(|(word, &count)| (split(word), count)).collect();
    Merger::new(words).run(tokens, vocab_size)
}

struct Merger {
    /// Token ids and number of occurrences of each distinct word.
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// Words that hold the pair, or held it once.
    places: HashMap<Pair, BTreeSet<usize>>,
    /// Candidates; an entry whose count is out of date is put right when it surfaces.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Merger {
    fn new(words: Vec<(Vec<u32>, u64)>) -> Self {
        let mut merger =
            Merger { words, counts: HashMap::new(), places: HashMap::new(), queue: BinaryHeap::new() };
        for word in 0..merger.words.len() {
            merger.add_pairs(word);
        }
        merger.queue = merger.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        merger
    }

    fn run(mut self, mut tokens: Vec<String>, vocab_size: usize) -> Learned {
        let mut id_of: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let mut merges = Vec::new();
        while tokens.len() < vocab_size {
            let Some((count, Reverse(pair))) = self.queue.pop() else { break };
            let current = self.counts.get(&pair).copied().unwrap_or(0);
            if current < LEAST_COUNT {
                continue;
            }
            if current != count {
                self.queue.push((current, Reverse(pair)));
                continue;
            }
            let (left, right) = (tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone());
            let joined = format!("{left}{right}");
            // Two merges can spell the same token.
            let id = *id_of.entry(joined.clone()).or_insert_with(|| {
                tokens.push(joined);
                tokens.len() as u32 - 1
            });
            merges.push((left, right));
            self.merge(pair, id);
        }
        Learned { tokens, merges }
    }

    /// Joins `pair` to `id` in every word that holds it.
    fn merge(&mut self, pair: Pair, id: u32) {
        let mut touched = BTreeSet::new();
        for word in self.places.remove(&pair).unwrap_or_default() {
            self.remove_pairs(word);
            join(&mut self.words[word].0, pair, id);
            self.add_pairs(word);
            touched.extend(self.words[word].0.windows(2).map(|p| (p[0], p[1])));
        }
        for pair in touched.into_iter().filter(|p| p.0 == id || p.1 == id) {
            self.queue.push((self.counts[&pair], Reverse(pair)));
        }
    }

    fn add_pairs(&mut self, word: usize) {
        let (ids, count) = &self.words[word];
        for pair in ids.windows(2).map(|p| (p[0], p[1])) {
            *self.counts.entry(pair).or_default() += count;
            self.places.entry(pair).or_default().insert(word);
        }
    }

    fn remove_pairs(&mut self, word: usize) {
        let (ids, count) = &self.words[word];
        for pair in ids.windows(2).map(|p| (p[0], p[1])) {
            *self.counts.entry(pair).or_default() -= count;
        }
    }
}

/// Replaces every occurrence of `pair`, left to right.
fn join(ids: &mut Vec<u32>, pair: Pair, id: u32) {
    let (mut read, mut write) = (0, 0);
    while read < ids.len() {
        let found = read + 1 < ids.len() && (ids[read], ids[read + 1]) == pair;
        ids[write] = if found { id } else { ids[read] };
        read += if found { 2 } else { 1 };
        write += 1;
    }
    ids.truncate(write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_pair_merges_first_and_ties_go_to_smaller_ids() {
        let words = [("abab", 3), ("bc", 6), ("cb", 1)].map(|(w, n)| (w.to_string(), n)).into();
        let learned = learn(&words, &["<s>"], &BTreeSet::from(['a', 'b', 'c']), 7);
        // ab and bc occur six times each: ab has the smaller ids.
        assert_eq!(learned.tokens, ["<s>", "a", "b", "c", "ab", "bc", "abab"]);
        let merges = [("a", "b"), ("b", "c"), ("ab", "ab")];
        assert_eq!(learned.merges, merges.map(|(a, b)| (a.to_string(), b.to_string())));
    }

    #[test]
    fn pairs_that_occur_once_are_not_learned() {
        let words = [("xy".to_string(), 1)].into();
        assert_eq!(learn(&words, &[], &BTreeSet::from(['x', 'y']), 100).tokens.len(), 2);
    }

    #[test]
    fn a_run_of_one_letter_merges_from_the_left() {
        let mut ids = vec![1, 1, 1, 2, 1, 1];
        join(&mut ids, (1, 1), 9);
        assert_eq!(ids, [9, 1, 2, 9]);
    }
}
