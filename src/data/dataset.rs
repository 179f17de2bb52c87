//! A data set in memory: items with text, users with time-ordered events over dense item numbers.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a user did with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feedback {
    /// Looked at it.
    Click,
    /// Bought it or put it into the cart.
    Buy,
    /// The data does not say.
    Other,
}

impl Feedback {
    /// Reward that the data itself gives: click 0.2, buy 1.0, else 1.0 (the convention of SQN, arXiv 2006.05779).
    pub fn reward(self) -> f32 {
        match self {
            Feedback::Click => 0.2,
            Feedback::Buy | Feedback::Other => 1.0,
        }
    }

    /// Reads a cell of a `kind` column. Views are clicks; adding to the cart counts as buying, as SQN does with
    /// RetailRocket. `None` for a word that is not known.
    pub fn parse(cell: &str) -> Option<Self> {
        let word = cell.trim();
        let is = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
        match word {
            _ if is(&["click", "view"]) => Some(Feedback::Click),
            _ if is(&["buy", "purchase", "transaction", "addtocart"]) => Some(Feedback::Buy),
            _ if is(&["other", ""]) => Some(Feedback::Other),
            _ => None,
        }
    }

    /// The word that [`Feedback::parse`] reads back.
    pub fn name(self) -> &'static str {
        match self {
            Feedback::Click => "click",
            Feedback::Buy => "buy",
            Feedback::Other => "other",
        }
    }
}

/// One step of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Dense item number, below [`Dataset::items`]`.len()`.
    pub item: u32,
    /// What the user did.
    pub kind: Feedback,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The id that the source uses.
    pub id: String,
    /// The text that a decoder reads; empty where the source has none.
    pub text: String,
    /// The source's columns beside the id, in the order of [`Dataset::columns`].
    pub fields: Vec<String>,
}

/// One user, or one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The id that the source uses.
    pub id: String,
    /// Events, oldest first; never empty.
    pub events: Vec<Event>,
}

/// Which columns make up an item's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSource {
    /// Names of item columns, in the order in which they are joined.
    pub columns: Vec<String>,
    /// Those of them that hold comma-separated lists (`red,blue`); the text gets a space after each comma.
    pub lists: Vec<String>,
    /// What stands between two columns.
    pub joiner: String,
}

impl TextSource {
    /// Composes the text of every item out of its cells; `columns` names the cells. Empty cells are left out
    /// together with their joiner.
    pub(in crate::data) fn compose(&self, columns: &[String], items: &mut [Item]) {
        let cell = |name: &String| {
            columns.iter().position(|column| column == name).map(|c| (c, self.lists.contains(name)))
        };
        let chosen: Vec<(usize, bool)> = self.columns.iter().filter_map(cell).collect();
        for item in items {
            let part = |&(c, list): &(usize, bool)| {
                let cell = item.fields[c].trim();
                if list { cell.replace(',', ", ") } else { cell.to_string() }
            };
            let parts: Vec<String> = chosen.iter().map(part).filter(|part| !part.is_empty()).collect();
            item.text = parts.join(&self.joiner);
        }
    }
}

/// Whether the cells are comma-separated lists: no comma is followed by white space, as commas in prose are, and
/// some comma stands outside a number such as 1,000.
pub(in crate::data) fn are_lists<'a>(cells: impl Iterator<Item = &'a str>) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut found = false;
    for cell in cells {
        for (at, _) in cell.match_indices(',') {
            let (before, after) = (cell[..at].chars().next_back(), cell[at + 1..].chars().next());
            if after.is_some_and(char::is_whitespace) {
                return false;
            }
            found |= !(digit(before) && digit(after));
        }
    }
    found
}

/// Items with text and users with time-ordered events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Name for tables and file names.
    pub name: String,
    /// Names of the item columns kept in [`Item::fields`].
    pub columns: Vec<String>,
    /// Which of them the texts were made of.
    pub text: TextSource,
    /// The catalogue; an item's dense number is its index.
    pub items: Vec<Item>,
    /// The users in the order of their first row in the source.
    pub users: Vec<User>,
}

impl Dataset {
    /// Number of events of all users.
    pub fn interactions(&self) -> usize {
        self.users.iter().map(|user| user.events.len()).sum()
    }

    /// Hex SHA-256 over everything that can change a result: item ids and texts, user ids, events and kinds.
    pub fn hash(&self) -> String {
        let mut digest = Canonical::new("lea-dataset-1");
        digest.items(&self.items);
        self.add_users(&mut digest);
        digest.finish()
    }

    /// As [`Dataset::hash`] without the texts: what a split and a recommender depend on, so that another choice of
    /// text columns keeps them valid.
    pub fn interactions_hash(&self) -> String {
        let mut digest = Canonical::new("lea-interactions-1");
        digest.item_ids(&self.items);
        self.add_users(&mut digest);
        digest.finish()
    }

    /// As [`Dataset::hash`] without the users: what item tokens depend on.
    pub fn items_hash(&self) -> String {
        let mut digest = Canonical::new("lea-items-1");
        digest.items(&self.items);
        digest.finish()
    }

    fn add_users(&self, digest: &mut Canonical) {
        digest.number(self.users.len());
        self.users.iter().for_each(|user| digest.user(&user.id, &user.events));
    }
}

/// [`Dataset::hash`] and [`Dataset::interactions_hash`] of users that come one by one.
pub(in crate::data) struct StreamedHashes {
    all: Canonical,
    interactions: Canonical,
}

impl StreamedHashes {
    /// Of a data set of these items and so many users.
    pub fn new(items: &[Item], users: usize) -> Self {
        let (mut all, mut interactions) =
            (Canonical::new("lea-dataset-1"), Canonical::new("lea-interactions-1"));
        all.items(items);
        interactions.item_ids(items);
        all.number(users);
        interactions.number(users);
        StreamedHashes { all, interactions }
    }

    /// The next user.
    pub fn add(&mut self, id: &str, events: &[Event]) {
        self.all.user(id, events);
        self.interactions.user(id, events);
    }

    /// The hash of everything and that without the texts.
    pub fn finish(self) -> (String, String) {
        (self.all.finish(), self.interactions.finish())
    }
}

/// Feeds values to SHA-256 with their lengths, so that no two contents share bytes. They are gathered first: an update
/// a value costs more than the hash.
struct Canonical {
    digest: Sha256,
    gathered: Vec<u8>,
}

impl Canonical {
    fn new(format: &str) -> Self {
        let mut digest = Canonical { digest: Sha256::new(), gathered: Vec::new() };
        digest.text(format);
        digest
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() > 1 << 15 {
            self.digest.update(&self.gathered);
            self.gathered.clear();
        }
    }

    fn number(&mut self, value: usize) {
        self.bytes(&(value as u64).to_le_bytes());
    }

    fn text(&mut self, value: &str) {
        self.number(value.len());
        self.bytes(value.as_bytes());
    }

    fn items(&mut self, items: &[Item]) {
        self.number(items.len());
        for item in items {
            self.text(&item.id);
            self.text(&item.text);
        }
    }

    fn item_ids(&mut self, items: &[Item]) {
        self.number(items.len());
        items.iter().for_each(|item| self.text(&item.id));
    }

    fn user(&mut self, id: &str, events: &[Event]) {
        self.text(id);
        self.number(events.len());
        for event in events {
            self.number(event.item as usize);
            self.text(event.kind.name());
        }
    }

    fn finish(mut self) -> String {
        self.digest.update(&self.gathered);
        self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A data set with `items` items and the given users' item numbers, for the tests of this folder.
    pub(crate) fn small(items: usize, users: &[&[u32]]) -> Dataset {
        let item = |i: usize| Item {
            id: format!("i{i}"),
            text: format!("item {i}"),
            fields: vec![format!("item {i}")],
        };
        let user = |(u, events): (usize, &&[u32])| User {
            id: format!("u{u}"),
            events: events.iter().map(|&item| Event { item, kind: Feedback::Other }).collect(),
        };
        Dataset {
            name: "small".into(),
            columns: vec!["title".into()],
            text: TextSource { columns: vec!["title".into()], lists: Vec::new(), joiner: ", ".into() },
            items: (0..items).map(item).collect(),
            users: users.iter().enumerate().map(user).collect(),
        }
    }

    #[test]
    fn every_change_of_content_changes_the_hash() {
        let base = small(3, &[&[0, 1], &[2]]);
        let mut text = base.clone();
        text.items[1].text.push('!');
        let mut kind = base.clone();
        kind.users[0].events[1].kind = Feedback::Click;
        let moved = small(3, &[&[0], &[1, 2]]);
        for changed in [&text, &kind, &moved] {
            assert_ne!(base.hash(), changed.hash());
        }
        assert_eq!(base.interactions_hash(), text.interactions_hash());
        assert_eq!(base.items_hash(), moved.items_hash());
        assert_ne!(base.items_hash(), text.items_hash());
        assert_ne!(base.interactions_hash(), kind.interactions_hash());
        assert_ne!(base.interactions_hash(), moved.interactions_hash());
    }

    #[test]
    fn commas_of_lists_are_told_from_commas_of_prose_and_numbers() {
        assert!(are_lists(["rock,80s", "", "jazz"].into_iter()));
        assert!(!are_lists(["rock,80s", "Earth, Wind"].into_iter()));
        assert!(!are_lists(["1,000 nails", "nails"].into_iter()));
    }

    #[test]
    fn clicks_earn_less_than_buys_and_unknown_feedback_earns_one() {
        let reward = |cell| Feedback::parse(cell).map(Feedback::reward);
        assert_eq!(reward("view"), Some(0.2));
        assert_eq!(reward("Purchase"), Some(1.0));
        assert_eq!(reward("addtocart"), Some(1.0));
        assert_eq!(reward(""), Some(1.0));
        assert_eq!(reward("veiw"), None);
    }
}
