//! The values of a `config.json`, taken key by key, so that a wrong one is told with its key and with what stands there.

use super::config::Problem;
use crate::Result;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The keys that were not taken yet.
pub(super) struct Keys(pub Map<String, Value>);

impl Keys {
    /// The value of `key`; `None` where it is absent or null.
    pub fn take<T: Field>(&mut self, key: &'static str) -> Result<Option<T>, Problem> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::read(&value) {
                Some(read) => Ok(Some(read)),
                None => Err((key, format!("{} where {} is expected", shown(&value), T::EXPECTED))),
            },
        }
    }

    /// The value of `key`, which must be there.
    pub fn need<T: Field>(&mut self, key: &'static str) -> Result<T, Problem> {
        let found = if self.0.contains_key(key) { "null" } else { "the key is missing" };
        self.take(key)?.ok_or_else(|| (key, format!("{found} where {} is expected", T::EXPECTED)))
    }

    /// The value of `key`; `None` where it is absent, an inner `None` where it is null.
    pub fn take_nullable<T: Field>(&mut self, key: &'static str) -> Result<Option<Option<T>>, Problem> {
        if self.0.contains_key(key) { self.take(key).map(Some) } else { Ok(None) }
    }
}

/// A key that stands twice has no value: which one a publisher meant cannot be known.
impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of keys and values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Keys, A::Error> {
                let mut map = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
                    }
                    map.insert(key, value);
                }
                Ok(Keys(map))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// What a value may be read as.
pub(super) trait Field: Sized {
    /// In words.
    const EXPECTED: &'static str;
    /// `None` where `value` is something else.
    fn read(value: &Value) -> Option<Self>;
}

impl Field for u64 {
    const EXPECTED: &'static str = "a whole number that is not negative";
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Field for u32 {
    const EXPECTED: &'static str = "the number of a token";
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

/// One or several tokens.
impl Field for Vec<u32> {
    const EXPECTED: &'static str = "the number of a token or a list of such numbers";
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Array(list) => list.iter().map(u32::read).collect(),
            one => u32::read(one).map(|token| vec![token]),
        }
    }
}

impl Field for f64 {
    const EXPECTED: &'static str = "a number";
    fn read(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for String {
    const EXPECTED: &'static str = "a string";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(String::from)
    }
}

impl Field for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";
    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::read).collect()
    }
}

impl Field for Map<String, Value> {
    const EXPECTED: &'static str = "an object of keys and values";
    fn read(value: &Value) -> Option<Self> {
        value.as_object().cloned()
    }
}

/// `value` as it stands in the file, a long one shortened.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
