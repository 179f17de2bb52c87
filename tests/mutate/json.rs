//! Mutations of JSON that stay near JSON: keys that go or come twice, values of another type, deep nesting.

use super::{EXTREMES, Mutator};
use serde_json::Value;

/// JSON that may also be wrong: keys may stand twice, numbers may be anything.
enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Raw(String),
}

impl Tree {
    fn of(value: Value) -> Self {
        match value {
            Value::Object(map) => Tree::Object(map.into_iter().map(|(k, v)| (k, Tree::of(v))).collect()),
            Value::Array(list) => Tree::Array(list.into_iter().map(Tree::of).collect()),
            scalar => Tree::Raw(scalar.to_string()),
        }
    }

    fn text(&self) -> String {
        match self {
            Tree::Raw(text) => text.clone(),
            Tree::Array(list) => {
                format!("[{}]", list.iter().map(Tree::text).collect::<Vec<_>>().join(","))
            }
            Tree::Object(pairs) => {
                let pair = |(key, value): &(String, Tree)| {
                    format!("{}:{}", Value::String(key.clone()), value.text())
                };
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn children(&mut self) -> Vec<&mut Tree> {
        match self {
            Tree::Object(pairs) => pairs.iter_mut().map(|(_, value)| value).collect(),
            Tree::Array(list) => list.iter_mut().collect(),
            Tree::Raw(_) => Vec::new(),
        }
    }
}

impl Mutator {
    /// Changes one node of the JSON that `bytes` are; plain bytes where they are none.
    pub(super) fn spoil_json(&mut self, bytes: &mut Vec<u8>) {
        let Ok(value) = serde_json::from_slice(bytes) else { return self.spoil_bytes(bytes) };
        let mut tree = Tree::of(value);
        self.spoil_tree(&mut tree);
        *bytes = tree.text().into_bytes();
    }

    /// Changes one line, most often as JSON.
    pub(super) fn spoil_json_lines(&mut self, bytes: &mut Vec<u8>) {
        if self.below(4) == 0 {
            return self.spoil_lines(bytes, b',');
        }
        let mut lines: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        let line = self.below(lines.len());
        self.spoil_json(&mut lines[line]);
        *bytes = lines.join(&b'\n');
    }

    /// Goes down to a random node and changes it.
    fn spoil_tree(&mut self, tree: &mut Tree) {
        let children = tree.children().len();
        if children > 0 && self.below(4) != 0 {
            let child = self.below(children);
            return self.spoil_tree(tree.children().swap_remove(child));
        }
        match tree {
            Tree::Object(pairs) if !pairs.is_empty() && self.below(3) != 0 => self.spoil_keys(pairs),
            Tree::Array(list) if !list.is_empty() && self.below(3) != 0 => {
                let (one, other) = (self.below(list.len()), self.below(list.len()));
                match self.below(3) {
                    0 => drop(list.remove(one)),
                    1 => list.swap(one, other),
                    _ => {
                        let copies = 1 + self.below(100);
                        let text = list[one].text();
                        list.extend((0..copies).map(|_| Tree::Raw(text.clone())));
                    }
                }
            }
            node => *node = self.replacement(node),
        }
    }

    fn spoil_keys(&mut self, pairs: &mut Vec<(String, Tree)>) {
        let (one, other) = (self.below(pairs.len()), self.below(pairs.len()));
        match self.below(5) {
            0 => drop(pairs.remove(one)),
            1 => pairs.insert(other, (pairs[one].0.clone(), Tree::Raw(pairs[one].1.text()))),
            2 => pairs[one].0 = pairs[other].0.clone(),
            3 => {
                let text = pairs[one].1.text();
                pairs[one].1 = Tree::Raw(pairs[other].1.text());
                pairs[other].1 = Tree::Raw(text);
            }
            _ => {
                pairs.push((format!("{}{}", pairs[one].0, "x".repeat(self.below(3))), Tree::Raw("[]".into())))
            }
        }
    }

    /// Something of another type, size or depth.
    fn replacement(&mut self, node: &Tree) -> Tree {
        let text = match self.below(10) {
            0 => "null".into(),
            1 => "true".into(),
            2 => "[]".into(),
            3 => "{}".into(),
            4 => format!("\"{}\"", "long ".repeat(self.below(500))),
            5 => "\"\\u0000\\ud83e\\udd80 ../x\"".into(),
            6 => {
                let depth = self.pick(&[1, 2, 130, 5000]);
                format!("{}{}{}", "[".repeat(depth), node.text(), "]".repeat(depth))
            }
            7 => format!("{{\"a\":{}}}", node.text()),
            _ => self.pick(&EXTREMES).into(),
        };
        Tree::Raw(text)
    }
}
