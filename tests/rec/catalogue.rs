//! A small data set whose next item follows from the last, and labels for it.

use lea::data::{Dataset, Event, Feedback, Item, Protocol, Split, TextSource, User};
use lea::rec::Labels;

pub const ITEMS: usize = 23;

/// Users walk through the items in steps of three, from different places; their lengths differ, some are long.
pub fn dataset(users: usize) -> Dataset {
    let item = |i: usize| Item { id: format!("i{i}"), text: String::new(), fields: Vec::new() };
    let user = |u: usize| User {
        id: format!("u{u}"),
        events: (0..2 + (u * 5) % 11).map(|t| event((u * 4 + t * 3) % ITEMS, u + t)).collect(),
    };
    Dataset {
        name: "walks".into(),
        columns: Vec::new(),
        text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: ", ".into() },
        items: (0..ITEMS).map(item).collect(),
        users: (0..users).map(user).collect(),
    }
}

fn event(item: usize, n: usize) -> Event {
    Event { item: item as u32, kind: if n.is_multiple_of(3) { Feedback::Buy } else { Feedback::Click } }
}

pub fn split(data: &Dataset) -> Split {
    Split::new(data, Protocol::Sqn, 1, 1.0).unwrap()
}

/// Arbitrary labels of every step.
pub fn labels(data: &Dataset) -> Labels {
    let mut labels = Labels { offsets: vec![0], state_dim: 3, negatives: 2, ..Labels::default() };
    for user in &data.users {
        let last = labels.offsets[labels.offsets.len() - 1];
        labels.offsets.push(last + user.events.len() - 1);
    }
    let steps = labels.offsets[data.users.len()];
    let value = |i: usize| ((i * 37) % 101) as f32 / 50.0 - 1.0;
    let items = |from: usize, n: usize| (from..from + n).map(|i| (i * 7 % ITEMS) as u32).collect();
    let values = |from: usize, n: usize| (from..from + n).map(value).collect();
    labels.rewards = values(0, steps);
    labels.states = values(9, steps * 3);
    labels.negative_items = items(2, steps * 2);
    labels.negative_rewards = values(40, steps * 2);
    labels.augmented_items = items(5, steps);
    labels.augmented_rewards = values(77, steps);
    labels.augmented_states = values(50, steps * 3);
    labels
}
