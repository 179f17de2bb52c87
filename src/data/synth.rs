//! A synthetic catalogue whose users go by what the items' texts say.
//!
//! All draws come from one ChaCha8 generator seeded with [`SynthConfig::seed`], in the order given here.
//!
//! **Items.** Each kind gets two *followers*, drawn among the other kinds. An item draws a kind, a material family
//! and one of its words, a mood and one of its words, a maker and a place, all uniformly and so that no two items
//! agree in all of them, and one of five sentences; the text is the sentence with the words put in. Family and mood
//! are never named as such: a reader has to find out that "oak" and "walnut", or "calm" and "serene", mean the same.
//! A random order of the items is their popularity rank; an item of rank r has the weight (r + 20)^−1, so that most
//! are rare.
//!
//! **Users.** A user draws a favourite and a second mood, two favourite material families and two favourite makers.
//! The taste for item i is
//! q(i) = 2.5 \[favourite mood\] + 1.2 \[second mood\] + 1.5 \[favourite family\] + 1.5 \[favourite maker\].
//! The length is 4 plus a geometric number with the mean `mean_length` − 4, at most five times `mean_length` and at
//! most half the catalogue.
//!
//! **Events.** The next item after x is drawn from the items that the user has not had, with probability
//! proportional to weight(i) · exp(q(i) + f(i, x)), where
//! f(i, x) = 3 \[first follower of x's kind\] + 2 \[second follower\] + 1 \[same place\]; f = 0 at the first event.
//! The event is a buy with probability 1 / (1 + exp(3 − q(i))), else a click.
//!
//! The log alone shows a rare item too seldom to place it; its text places it at once.

use super::dataset::{Dataset, Event, Feedback, Item, TextSource, User};
use super::loaded::Loaded;
use super::synth_config::{SHORTEST, SynthConfig};
use super::synth_words::{KINDS, MAKERS, MATERIALS, MOODS, PLACES, SENTENCES};
use crate::Result;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// Added to a popularity rank before its reciprocal is taken, so that the first items do not take everything.
const RANK_OFFSET: f64 = 20.0;

/// What a text says about an item, as indices into the word lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Attributes {
    kind: usize,
    family: usize,
    material: usize,
    mood: usize,
    mood_word: usize,
    maker: usize,
    place: usize,
}

/// Makes the data set that the head of this file describes.
///
/// # Errors
/// Sizes out of range.
pub fn synthesise(config: &SynthConfig) -> Result<Loaded> {
    config.check()?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let shop = Shop::draw(config.items, &mut rng);
    let users = (0..config.users).map(|number| draw_user(number, config, &shop, &mut rng)).collect();
    let dataset = Dataset {
        name: "synthetic".into(),
        columns: ["text", "kind", "material", "mood", "maker", "place"].map(String::from).to_vec(),
        text: TextSource { columns: vec!["text".into()], lists: Vec::new(), joiner: ", ".into() },
        items: shop.items,
        users,
    };
    Ok(Loaded::made(dataset, *config))
}

/// The catalogue and what the process knows about it.
struct Shop {
    items: Vec<Item>,
    attributes: Vec<Attributes>,
    weights: Vec<f64>,
    followers: [[usize; 2]; KINDS.len()],
}

impl Shop {
    fn draw(count: usize, rng: &mut ChaCha8Rng) -> Self {
        let followers = std::array::from_fn(|kind| draw_followers(kind, rng));
        let (mut items, mut attributes, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        while items.len() < count {
            let drawn = draw_attributes(rng);
            if taken.insert(drawn) {
                let sentence = SENTENCES[rng.random_range(0..SENTENCES.len())];
                items.push(item(items.len(), drawn, sentence));
                attributes.push(drawn);
            }
        }
        let mut ranks: Vec<usize> = (0..count).collect();
        ranks.shuffle(rng);
        let weights = ranks.iter().map(|&rank| 1.0 / (rank as f64 + RANK_OFFSET)).collect();
        Shop { items, attributes, weights, followers }
    }

    /// f of the head comment: how much `next` follows from `last`.
    fn follows(&self, last: Attributes, next: Attributes) -> f64 {
        let [first, second] = self.followers[last.kind];
        let kind = if next.kind == first { 3.0 } else { 2.0 * f64::from(next.kind == second) };
        kind + f64::from(next.place == last.place)
    }
}

fn draw_followers(kind: usize, rng: &mut ChaCha8Rng) -> [usize; 2] {
    let mut others: Vec<usize> = (0..KINDS.len()).filter(|&other| other != kind).collect();
    others.shuffle(rng);
    [others[0], others[1]]
}

fn draw_attributes(rng: &mut ChaCha8Rng) -> Attributes {
    Attributes {
        kind: rng.random_range(0..KINDS.len()),
        family: rng.random_range(0..MATERIALS.len()),
        material: rng.random_range(0..3),
        mood: rng.random_range(0..MOODS.len()),
        mood_word: rng.random_range(0..3),
        maker: rng.random_range(0..MAKERS.len()),
        place: rng.random_range(0..PLACES.len()),
    }
}

fn item(number: usize, attributes: Attributes, sentence: &str) -> Item {
    let Attributes { kind, family, material, mood, mood_word, maker, place } = attributes;
    let words = [
        ("{kind}", KINDS[kind]),
        ("{material}", MATERIALS[family][material]),
        ("{mood}", MOODS[mood][mood_word]),
        ("{maker}", MAKERS[maker]),
        ("{place}", PLACES[place]),
    ];
    let text = words.iter().fold(sentence.to_string(), |text, (slot, word)| text.replace(slot, word));
    let cells = words.iter().map(|(_, word)| word.to_string());
    Item { id: format!("i{number}"), fields: std::iter::once(text.clone()).chain(cells).collect(), text }
}

/// What a user likes.
struct Taste {
    mood: usize,
    second_mood: usize,
    families: [usize; 2],
    makers: [usize; 2],
}

impl Taste {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut two = |of: usize| {
            let first = rng.random_range(0..of);
            [first, (first + rng.random_range(1..of)) % of]
        };
        let [mood, second_mood] = two(MOODS.len());
        Taste { mood, second_mood, families: two(MATERIALS.len()), makers: two(MAKERS.len()) }
    }

    /// q of the head comment.
    fn of(&self, item: Attributes) -> f64 {
        let mood = if item.mood == self.mood { 2.5 } else { 1.2 * f64::from(item.mood == self.second_mood) };
        let family = 1.5 * f64::from(self.families.contains(&item.family));
        mood + family + 1.5 * f64::from(self.makers.contains(&item.maker))
    }
}

fn draw_user(number: usize, config: &SynthConfig, shop: &Shop, rng: &mut ChaCha8Rng) -> User {
    let taste = Taste::draw(rng);
    let liking: Vec<f64> = shop.attributes.iter().map(|&item| taste.of(item)).collect();
    let mut open: Vec<f64> = shop.weights.iter().zip(&liking).map(|(weight, q)| weight * q.exp()).collect();
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..draw_length(config, rng) {
        let item = draw_item(&open, events.last().map(|event| event.item as usize), shop, rng);
        open[item] = 0.0;
        let bought = rng.random::<f64>() < 1.0 / (1.0 + (3.0 - liking[item]).exp());
        events.push(Event { item: item as u32, kind: if bought { Feedback::Buy } else { Feedback::Click } });
    }
    User { id: format!("u{number}"), events }
}

fn draw_length(config: &SynthConfig, rng: &mut ChaCha8Rng) -> usize {
    let stop = 1.0 / (config.mean_length - SHORTEST as f64 + 1.0);
    let longest = (5.0 * config.mean_length).min(config.items as f64 / 2.0) as usize;
    let extra = (rng.random::<f64>().max(f64::MIN_POSITIVE).ln() / (1.0 - stop).ln()).floor();
    (SHORTEST + extra as usize).min(longest)
}

/// An item with probability proportional to `open` times what follows from the item before.
fn draw_item(open: &[f64], last: Option<usize>, shop: &Shop, rng: &mut ChaCha8Rng) -> usize {
    let weight = |(item, &open): (usize, &f64)| {
        open * last.map_or(1.0, |last| shop.follows(shop.attributes[last], shop.attributes[item]).exp())
    };
    let weights: Vec<f64> = open.iter().enumerate().map(weight).collect();
    let mut at = rng.random::<f64>() * weights.iter().sum::<f64>();
    let mut drawn = 0;
    for (item, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        drawn = item;
        at -= weight;
        if at < 0.0 {
            break;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_data_and_another_makes_other() {
        let config = SynthConfig { users: 50, ..Default::default() };
        let hash = |config| synthesise(&config).unwrap().dataset.hash();
        assert_eq!(hash(config), hash(config));
        assert_ne!(hash(config), hash(SynthConfig { seed: 2, ..config }));
    }

    #[test]
    fn sizes_lengths_and_kinds_are_as_configured() {
        let dataset =
            synthesise(&SynthConfig { items: 300, users: 2000, mean_length: 9.0, seed: 4 }).unwrap().dataset;
        assert_eq!((dataset.items.len(), dataset.users.len()), (300, 2000));
        let mean = dataset.interactions() as f64 / 2000.0;
        assert!((mean - 9.0).abs() < 0.5, "mean length {mean}");
        let events: Vec<Event> = dataset.users.iter().flat_map(|user| user.events.clone()).collect();
        let buys =
            events.iter().filter(|event| event.kind == Feedback::Buy).count() as f64 / events.len() as f64;
        assert!((0.2..0.8).contains(&buys), "share of buys {buys}");
        for user in &dataset.users {
            let different: HashSet<u32> = user.events.iter().map(|event| event.item).collect();
            assert_eq!(different.len(), user.events.len());
            assert!(user.events.len() >= SHORTEST);
        }
    }

    #[test]
    fn the_text_names_every_attribute_and_no_two_items_share_all_of_them() {
        let dataset = synthesise(&SynthConfig { users: 1, ..Default::default() }).unwrap().dataset;
        let mut seen = HashSet::new();
        for item in &dataset.items {
            assert!(item.fields[1..].iter().all(|word| item.text.contains(word.as_str())), "{}", item.text);
            assert!(!item.text.contains(['{', '}']) && item.text == item.fields[0]);
            assert!(seen.insert(&item.fields[1..]));
        }
    }

    #[test]
    fn senseless_sizes_are_refused() {
        let plain = SynthConfig::default();
        let wrong = [
            SynthConfig { items: 3, ..plain },
            SynthConfig { users: 0, ..plain },
            SynthConfig { mean_length: 2.0, ..plain },
            SynthConfig { mean_length: f64::NAN, ..plain },
            SynthConfig { mean_length: 500.0, ..plain },
        ];
        for config in wrong {
            assert!(synthesise(&config).is_err(), "{config:?}");
        }
    }
}
