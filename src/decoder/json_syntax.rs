//! Whether a text is JSON through and through: every number in range, every string whole. Nothing is kept of it.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The first mistake, with its line and column.
pub(super) fn check(text: &str) -> serde_json::Result<()> {
    serde_json::from_str::<Sound>(text).map(drop)
}

/// Any JSON value, read in full and dropped.
struct Sound;

struct Walk;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(Sound)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }
    fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sound, A::Error> {
        while list.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sound, A::Error> {
        while map.next_entry::<Sound, Sound>()?.is_some() {}
        Ok(Sound)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn mistakes_anywhere_are_found() {
        check(r#"{"a": [1, -2, 3.5, null, true, "\u00e9 x", {}], "b": {"c": []}}"#).unwrap();
        for text in ["", "{", r#"{"a": {1: 2}}"#, r#"[1e999]"#, r#"["\ud800"]"#, "[1,]", "{} x", r#"{"a" 1}"#]
        {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(check(&"[".repeat(100_000)).is_err());
    }
}
