//! How PEFT names modules: lists of names, regular expressions, patterns of ranks and α.

use crate::decoder::{AdapterShape, LoraConfig, PROJECTIONS, module_path};
use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest regular expression that is read.
const LONGEST_PATTERN: usize = 4096;
/// Steps after which a match is given up.
const BACKTRACKS: usize = 100_000;
/// Bytes that one compiled expression may take.
const COMPILED_BYTES: usize = 1 << 18;

/// Key and problem of a setting that cannot be followed.
pub(super) type Problem = (&'static str, String);

/// A value of `target_modules` or `exclude_modules`.
pub(super) enum Names {
    /// Every linear layer but the head.
    AllLinear,
    /// Paths, or their ends behind a dot.
    List(Vec<String>),
    /// A regular expression for whole paths.
    Pattern(Regex),
}

impl Names {
    pub(super) fn parse(key: &'static str, value: &Value) -> Result<Self, Problem> {
        match value {
            Value::String(text) if text.eq_ignore_ascii_case("all-linear") => Ok(Names::AllLinear),
            Value::String(text) => Ok(Names::Pattern(whole(key, text)?)),
            Value::Array(list) => {
                let names = list.iter().map(|name| name.as_str().map(String::from)).collect::<Option<_>>();
                names.map(Names::List).ok_or_else(|| (key, "the list holds something else than names".into()))
            }
            other => Err((key, format!("{other} is neither a list of names nor a pattern"))),
        }
    }

    /// Whether the module at path `module` is meant.
    pub(super) fn matches(&self, key: &'static str, module: &str) -> Result<bool, Problem> {
        match self {
            Names::AllLinear => Ok(true),
            Names::List(list) => Ok(list.iter().any(|name| ends(module, name))),
            Names::Pattern(regex) => is_match(key, regex, module),
        }
    }
}

/// `module` is `name`, or ends with it behind a dot.
fn ends(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|before| before.ends_with('.'))
}

/// The expression for whole texts.
fn whole(key: &'static str, pattern: &str) -> Result<Regex, Problem> {
    if pattern.len() > LONGEST_PATTERN {
        return Err((key, format!("a pattern of {} bytes, at most {LONGEST_PATTERN}", pattern.len())));
    }
    let mut builder = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"));
    builder
        .backtrack_limit(BACKTRACKS)
        .delegate_size_limit(COMPILED_BYTES)
        .delegate_dfa_size_limit(COMPILED_BYTES);
    builder.build().map_err(|e| (key, format!("the pattern {pattern:?} cannot be read: {e}")))
}

fn is_match(key: &'static str, regex: &Regex, text: &str) -> Result<bool, Problem> {
    regex.is_match(text).map_err(|e| (key, format!("matching {text} was given up: {e}")))
}

/// Layers that `layers_to_transform` keeps. It tells apart what a list of ends of paths names, not whole paths.
pub(super) struct Layers {
    /// Numbers; empty keeps all.
    numbers: Vec<u64>,
    /// What stands ahead of the number in a path; empty: anything.
    patterns: Vec<Regex>,
}

impl Layers {
    pub(super) fn parse(numbers: &Value, patterns: &Value) -> Result<Self, Problem> {
        let key = "layers_to_transform";
        let list = |value: &Value| match value {
            Value::Null => Vec::new(),
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        let number = |n: &Value| n.as_u64().ok_or_else(|| (key, format!("{n} is no number of a layer")));
        let numbers = list(numbers).iter().map(number).collect::<Result<_, _>>()?;
        let key = "layers_pattern";
        let pattern = |text: &Value| match text.as_str() {
            Some(text) => whole(key, &format!(r"(?:.*?\.)?(?:{text})\.\d+\..*")),
            None => Err((key, format!("{text} is no pattern"))),
        };
        let empty = |text: &Value| text.as_str() == Some("");
        let patterns = list(patterns).iter().filter(|p| !empty(p)).map(pattern).collect::<Result<_, _>>()?;
        Ok(Layers { numbers, patterns })
    }

    /// Whether there is nothing to keep out.
    pub(super) fn keep_all(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether `module` of layer `layer` is kept.
    pub(super) fn keep(&self, layer: usize, module: &str) -> Result<bool, Problem> {
        let mut known = self.patterns.is_empty();
        for pattern in &self.patterns {
            known = known || is_match("layers_pattern", pattern, module)?;
        }
        Ok(self.keep_all() || (known && self.numbers.contains(&(layer as u64))))
    }
}

/// Ranks or α by pattern, in the order of the file: the first that matches counts.
pub(super) struct Patterns<V>(Vec<(Regex, V)>);

impl<V: Copy> Patterns<V> {
    pub(super) fn parse(
        key: &'static str,
        map: &Map<String, Value>,
        value: impl Fn(&Value) -> Option<V>,
    ) -> Result<Self, Problem> {
        let entry = |(pattern, found): (&String, &Value)| {
            let value =
                value(found).ok_or_else(|| (key, format!("{found} of {pattern:?} is no such number")))?;
            Ok((whole(key, &format!(r"(?:.*\.)?(?:{pattern})"))?, value))
        };
        map.iter().map(entry).collect::<Result<_, _>>().map(Patterns)
    }

    pub(super) fn of(&self, key: &'static str, module: &str) -> Result<Option<V>, Problem> {
        for (regex, value) in &self.0 {
            if is_match(key, regex, module)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// `lora` with the targets and patterns that mean exactly `adapters`, of a decoder of `layers` layers: short names
/// where a projection is adapted alike in all layers, else paths.
pub(super) fn named(mut lora: LoraConfig, adapters: &[AdapterShape], layers: usize) -> LoraConfig {
    let of = |projection: &str| -> Vec<&AdapterShape> {
        let end = format!(".{projection}");
        adapters.iter().filter(|a| a.module.ends_with(&end)).collect()
    };
    let groups: Vec<_> = PROJECTIONS.iter().map(|p| (short(p), of(p))).filter(|g| !g.1.is_empty()).collect();
    let whole = groups.iter().all(|(_, adapted)| adapted.len() == layers);
    lora.targets = match whole {
        true => groups.iter().map(|(name, _)| name.to_string()).collect(),
        false => adapters.iter().map(|a| a.module.clone()).collect(),
    };
    (lora.rank_pattern, lora.alpha_pattern) = (BTreeMap::new(), BTreeMap::new());
    for (name, adapted) in groups {
        put(&mut lora.rank_pattern, name, lora.rank, adapted.iter().map(|a| (&a.module[..], a.rank)));
        put(&mut lora.alpha_pattern, name, lora.alpha, adapted.iter().map(|a| (&a.module[..], a.alpha)));
    }
    lora
}

fn put<'a, V: Copy + PartialEq>(
    patterns: &mut BTreeMap<String, V>,
    name: &str,
    common: V,
    values: impl Iterator<Item = (&'a str, V)> + Clone,
) {
    let first = values.clone().next().map_or(common, |(_, value)| value);
    if values.clone().all(|(_, value)| value == first) {
        if first != common {
            patterns.insert(name.to_string(), first);
        }
        return;
    }
    let single = values.filter(|(_, value)| *value != common);
    patterns.extend(single.map(|(module, value)| (module.to_string(), value)));
}

fn short(projection: &str) -> &str {
    projection.rsplit('.').next().unwrap_or(projection)
}

/// Every projection of a decoder of `layers` layers, with its layer.
pub(super) fn modules(layers: usize) -> impl Iterator<Item = (usize, String)> {
    (0..layers).flat_map(|layer| PROJECTIONS.map(move |p| (layer, module_path(layer, p))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(value: Value, module: &str) -> Result<bool, Problem> {
        Names::parse("target_modules", &value)?.matches("target_modules", module)
    }

    #[test]
    fn lists_match_ends_and_patterns_match_whole_paths() {
        let path = "model.layers.11.self_attn.q_proj";
        for (value, expected) in [
            (json!(["v_proj", "q_proj"]), true),
            (json!(["self_attn.q_proj"]), true),
            (json!([path]), true),
            (json!(["layers.1.self_attn.q_proj", "proj", "attn.q_proj"]), false),
            (json!("all-linear"), true),
            (json!(r".*\.(q|v)_proj"), true),
            (json!(r"q_proj"), false),
            (json!(r"model\.layers\.1\..*"), false),
            (json!(r"(?!.*layers\.11).*q_proj"), false),
            (json!(r".*q_proj|.*q"), true),
        ] {
            assert_eq!(matches(value.clone(), path).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_followed_are_refused() {
        for (value, message) in [
            (json!("(q_proj"), "cannot be read"),
            (json!("x".repeat(5000)), "5000 bytes"),
            (json!("(a{1000}){1000}"), "cannot be read"),
            (json!(3), "neither a list of names nor a pattern"),
            (json!([3]), "something else than names"),
        ] {
            let (key, problem) = matches(value, "model.layers.0.self_attn.q_proj").unwrap_err();
            assert!(key == "target_modules" && problem.contains(message), "{problem}");
        }
        let endless = json!(r"(?:(.*)*\1)*!");
        assert!(matches(endless, &"a.".repeat(200)).unwrap_err().1.contains("given up"));
    }

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let map = json!({"layers.1.self_attn.q_proj": 2, "q_proj": 3, "^model.layers.2.*": 9});
        let ranks = Patterns::parse("rank_pattern", map.as_object().unwrap(), Value::as_u64).unwrap();
        let of = |module: &str| ranks.of("rank_pattern", module).unwrap();
        assert_eq!(of("model.layers.1.self_attn.q_proj"), Some(2));
        assert_eq!(of("model.layers.0.self_attn.q_proj"), Some(3));
        assert_eq!(of("model.layers.2.mlp.up_proj"), Some(9));
        assert_eq!(of("model.layers.0.self_attn.v_proj"), None);
    }

    #[test]
    fn adapters_are_named_as_shortly_as_they_can_be() {
        let shape = |layer, projection, rank| AdapterShape {
            module: module_path(layer, projection),
            rank,
            alpha: 16.0,
        };
        let (q, up) = ("self_attn.q_proj", "mlp.up_proj");
        let all = [shape(0, q, 2), shape(0, up, 8), shape(1, q, 2), shape(1, up, 3)];
        let lora = named(LoraConfig::default(), &all, 2);
        assert_eq!(lora.targets, ["q_proj", "up_proj"]);
        let ranks = [(module_path(1, up), 3), ("q_proj".to_string(), 2)];
        assert_eq!(lora.rank_pattern, BTreeMap::from(ranks));
        assert_eq!(lora.adapters(2).unwrap(), all);
        let some = [shape(1, q, 8)];
        let lora = named(LoraConfig::default(), &some, 2);
        assert_eq!((&lora.targets[..], lora.rank_pattern.len()), (&[module_path(1, q)][..], 0));
        assert_eq!(lora.adapters(2).unwrap(), some);
    }
}
