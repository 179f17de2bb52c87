//! Python's literals, as `repr` writes them: the metadata of Amazon's 2014 release has one dictionary a line.

use serde_json::{Map, Number, Value};

/// Deeper nesting than this is an error; the data has three levels.
const DEPTH: usize = 32;

/// Reads one literal: dictionaries with texts for keys, lists, tuples, texts, numbers, `True`, `False`, `None`.
///
/// # Errors
/// What was found where, as text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.spaces();
    if parser.at < text.len() {
        return Err(parser.wrong("the end of the line"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn wrong(&self, expected: &str) -> String {
        let found = match self.text[self.at..].chars().next() {
            Some(c) => format!("{c:?}"),
            None => "the end".into(),
        };
        format!("column {}: {found} where {expected} is expected", self.at + 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps over `byte` and the spaces before it, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.spaces();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH {
            return Err(format!("column {}: nested deeper than {DEPTH}", self.at + 1));
        }
        self.spaces();
        match self.peek() {
            Some(b'{') => self.dictionary(depth),
            Some(b'[') => self.list(b']', depth),
            Some(b'(') => self.list(b')', depth),
            Some(b'\'' | b'"' | b'u' | b'b') => self.string().map(Value::String),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut map = Map::new();
        while !self.take(b'}') {
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.wrong("':'"));
            }
            let value = self.value(depth + 1)?;
            map.insert(key, value);
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err(self.wrong("',' or '}'"));
            }
        }
        Ok(Value::Object(map))
    }

    fn list(&mut self, close: u8, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut list = Vec::new();
        while !self.take(close) {
            list.push(self.value(depth + 1)?);
            if !self.take(b',') && self.peek() != Some(close) {
                return Err(self.wrong("',' or the end of the list"));
            }
        }
        Ok(Value::Array(list))
    }

    fn string(&mut self) -> Result<String, String> {
        self.spaces();
        if matches!(self.peek(), Some(b'u' | b'b')) {
            self.at += 1;
        }
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => char::from(quote),
            _ => return Err(self.wrong("a text in quotes")),
        };
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = self.next_char()?;
            match c {
                '\\' => self.escape(&mut out)?,
                c if c == quote => return Ok(out),
                c => out.push(c),
            }
        }
    }

    fn next_char(&mut self) -> Result<char, String> {
        let c = self.text[self.at..].chars().next().ok_or_else(|| self.wrong("a closing quote"))?;
        self.at += c.len_utf8();
        Ok(c)
    }

    fn escape(&mut self, out: &mut String) -> Result<(), String> {
        let c = self.next_char()?;
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'x' => out.push(self.code(2)?),
            'u' => out.push(self.code(4)?),
            'U' => out.push(self.code(8)?),
            '\\' | '\'' | '"' => out.push(c),
            other => out.extend(['\\', other]),
        }
        Ok(())
    }

    fn code(&mut self, digits: usize) -> Result<char, String> {
        let code = self.text.get(self.at..self.at + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let code = code.ok_or_else(|| self.wrong("hexadecimal digits"))?;
        self.at += digits;
        // Half of a pair of surrogates says nothing by itself.
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let whole = rest[..end].parse::<i64>().ok().map(Number::from);
        let number = whole.or_else(|| rest[..end].parse().ok().and_then(Number::from_f64));
        let number = number.ok_or_else(|| self.wrong("a number"))?;
        self.at += end;
        // A long integer of Python 2 ends in L.
        self.at += usize::from(self.peek() == Some(b'L'));
        Ok(Value::Number(number))
    }

    fn word(&mut self) -> Result<Value, String> {
        let words = [
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("None", Value::Null),
            ("nan", Value::Null),
        ];
        for (word, value) in words {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("a value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_repr_writes_is_read() {
        let line = r#"{'asin': '0001', 'title': "It's \"here\"", u'price': 12.5, 'n': 3L, 'rank': {'Music': -7},
            'categories': [['A & B', 'C'],], 'pair': (1, None, True), 'escapes': 'a\tb\xe9\u20ac\\', 'none': []}"#;
        let expected = json!({
            "asin": "0001", "title": "It's \"here\"", "price": 12.5, "n": 3, "rank": {"Music": -7},
            "categories": [["A & B", "C"]], "pair": [1, null, true], "escapes": "a\tb\u{e9}\u{20ac}\\", "none": []
        });
        assert_eq!(parse(line).unwrap(), expected);
    }

    #[test]
    fn broken_literals_are_errors_with_their_column() {
        for (text, expected) in [
            ("{'a': }", "column 7: '}' where a value"),
            ("{'a' 1}", "column 6: '1' where ':'"),
            ("{'a': 'b}", "where a closing quote"),
            ("{'a': 'b\\u12'}", "hexadecimal"),
            ("{1: 2}", "a text in quotes"),
            ("{'a': 1} x", "the end of the line"),
            ("{'a': --1}", "a number"),
            ("{'a': [1 2]}", "',' or the end of the list"),
            ("", "the end where a value"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let deep = format!("{{'a': {}", "[".repeat(100_000));
        assert!(parse(&deep).unwrap_err().contains("nested deeper"));
    }
}
