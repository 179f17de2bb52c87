//! A deterministic mutator of files: what a broken disk, a careless script or a hostile sender makes of them.
//!
//! A [`Mutator`] draws everything from one seeded generator, so mutation number n of a seed is the same everywhere.
//! What it knows of a file's structure is its [`Kind`]; whatever the kind, plain bytes are spoilt too.
//! [`trial::run`] gives a reader many mutations and holds it to what it owes: no panic, bounded memory, a message.

// Each test file uses a part.
#![allow(dead_code)]

pub mod allocation;
mod binary;
mod json;
mod text;
pub mod trial;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is known of a file's structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes without a known structure.
    Bytes,
    /// Lines of fields and words; the byte stands between fields.
    Lines(u8),
    /// One JSON value.
    Json,
    /// One JSON value a line.
    JsonLines,
    /// Little-endian numbers.
    Binary,
    /// A safetensors file: the length of a header as little-endian u64, the header as JSON, then data.
    Safetensors,
}

/// Spoils files; see the head of this file.
pub struct Mutator {
    rng: ChaCha8Rng,
}

impl Mutator {
    /// A mutator whose every draw follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Mutator { rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// `file` with one to four mutations.
    pub fn mutate(&mut self, kind: Kind, file: &[u8]) -> Vec<u8> {
        let mut bytes = file.to_vec();
        for _ in 0..self.below(4).min(self.below(4)) + 1 {
            self.once(kind, &mut bytes);
        }
        bytes
    }

    fn once(&mut self, kind: Kind, bytes: &mut Vec<u8>) {
        let structured = kind != Kind::Bytes && self.below(4) != 0;
        if !structured {
            return self.spoil_bytes(bytes);
        }
        match kind {
            Kind::Bytes => self.spoil_bytes(bytes),
            Kind::Lines(separator) => self.spoil_lines(bytes, separator),
            Kind::Json => self.spoil_json(bytes),
            Kind::JsonLines => self.spoil_json_lines(bytes),
            Kind::Binary => self.spoil_numbers(bytes),
            Kind::Safetensors => self.spoil_safetensors(bytes),
        }
    }

    /// Flips, inserts, deletes, doubles, cuts, splices: what needs no structure.
    fn spoil_bytes(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(self.below(256) as u8);
        }
        let at = self.below(bytes.len());
        let range = at..(at + 1 + self.below(16)).min(bytes.len());
        match self.below(8) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.below(256) as u8,
            2 => bytes.insert(at, self.below(256) as u8),
            3 => drop(bytes.drain(range)),
            4 => {
                let piece = bytes[range].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => bytes.truncate(at),
            6 => {
                // The end of the file after another place of it.
                let tail = bytes[self.below(bytes.len())..].to_vec();
                bytes.truncate(at);
                bytes.extend(tail);
            }
            _ => bytes[range].fill([0, 0xff, b' ', b'\n'][self.below(4)]),
        }
    }

    /// A number below `end`, or 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.rng.random_range(0..end) }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Numbers at which readers break, as text.
pub const EXTREMES: [&str; 16] = [
    "0",
    "-1",
    "1",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-1e308",
    "1e999",
    "NaN",
    "0.1",
];
