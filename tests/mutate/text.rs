//! Mutations of text: lines, fields and words that go, come twice, change places or turn into something else.

use super::{EXTREMES, Mutator};

/// What a field or word is replaced by.
const WORDS: [&[u8]; 12] = [
    b"",
    b" ",
    b"\"",
    b"\\",
    b"null",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0",
    "\u{1f980}\u{301}".as_bytes(),
    b"../../etc/passwd",
    b"-",
    b"{[<&\r",
];

impl Mutator {
    /// Changes whole lines, one field of a line, or one word; fields stand between `separator`s.
    pub(super) fn spoil_lines(&mut self, bytes: &mut Vec<u8>, separator: u8) {
        let mut lines: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        let line = self.below(lines.len());
        match self.below(4) {
            0 => self.spoil_pieces(&mut lines),
            1 => self.spoil_within(&mut lines[line], b' '),
            2 => self.replace_number(&mut lines[line]),
            _ => self.spoil_within(&mut lines[line], separator),
        }
        *bytes = lines.join(&b'\n');
    }

    fn spoil_within(&mut self, line: &mut Vec<u8>, separator: u8) {
        let mut pieces: Vec<Vec<u8>> = line.split(|&b| b == separator).map(<[u8]>::to_vec).collect();
        self.spoil_pieces(&mut pieces);
        *line = pieces.join(&separator);
    }

    fn spoil_pieces(&mut self, pieces: &mut Vec<Vec<u8>>) {
        if pieces.is_empty() {
            return;
        }
        let (one, other) = (self.below(pieces.len()), self.below(pieces.len()));
        match self.below(7) {
            0 => drop(pieces.remove(one)),
            1 => pieces.insert(other, pieces[one].clone()),
            2 => pieces.swap(one, other),
            3 => pieces[one] = self.pick(&EXTREMES).as_bytes().to_vec(),
            4 => pieces[one] = self.pick(&WORDS).to_vec(),
            5 => pieces[one] = pieces[one].repeat(1 + self.below(200)),
            _ => self.spoil_bytes(&mut pieces[one]),
        }
    }

    /// Replaces a run of digits by an extreme number.
    fn replace_number(&mut self, line: &mut Vec<u8>) {
        let starts: Vec<usize> = (0..line.len())
            .filter(|&i| line[i].is_ascii_digit() && (i == 0 || !line[i - 1].is_ascii_digit()))
            .collect();
        if starts.is_empty() {
            return self.spoil_bytes(line);
        }
        let start = self.pick(&starts);
        let digits = line[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        line.splice(start..start + digits, self.pick(&EXTREMES).bytes());
    }
}
