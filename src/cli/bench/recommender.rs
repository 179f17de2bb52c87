//! Users with random histories, and the recommender that is measured on them.

use crate::data::{Dataset, Event, Feedback, Item, TextSource, User};
use crate::device::Device;
use crate::rec::{EncoderKind, Framework, Learners, RecConfig};
use crate::{Error, Result};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// What the inputs of both benches are.
pub const INPUTS: &str = "items uniform over the catalogue, weights as training begins with";

/// Shapes of the recommender.
#[derive(Clone, Debug, Args)]
pub struct RecommenderArgs {
    /// Encoder
    #[arg(long, value_enum, default_value = "sasrec")]
    pub encoder: EncoderKind,
    /// Items of the catalogue
    #[arg(long, default_value_t = 3000)]
    pub items: usize,
    /// Items that the encoder reads at most
    #[arg(long, default_value_t = 50)]
    pub history: usize,
    /// Width of embeddings and hidden vectors
    #[arg(long, default_value_t = 64)]
    pub width: usize,
    /// Attention blocks or recurrent layers
    #[arg(long, default_value_t = 2)]
    pub blocks: usize,
    /// Attention heads; sasrec only
    #[arg(long, default_value_t = 1)]
    pub heads: usize,
}

impl RecommenderArgs {
    /// The settings of a recommender.
    ///
    /// # Errors
    /// Shapes that make no sense.
    pub fn config(&self, framework: Framework) -> Result<RecConfig> {
        if self.items < 2 || self.items > 1 << 28 {
            return Err(Error::setting(
                format!("a catalogue of {} items", self.items),
                format!("choose 2 to {}", 1 << 28),
            ));
        }
        let config = RecConfig {
            encoder: self.encoder,
            framework,
            history: self.history,
            width: self.width,
            blocks: self.blocks,
            heads: self.heads,
            ..RecConfig::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// The settings as a record tells them, with those of the bench itself.
    pub fn settings(&self, own: Value) -> Value {
        let mut all = json!({
            "encoder": self.encoder.name(), "items": self.items, "history": self.history, "width": self.width,
            "blocks": self.blocks, "heads": self.heads,
        });
        if let (Some(all), Value::Object(own)) = (all.as_object_mut(), own) {
            all.extend(own);
        }
        all
    }

    /// New networks.
    pub fn learners(&self, config: &RecConfig, device: &Device) -> Result<Learners> {
        Learners::new(config, self.items, 0, device)
    }

    /// Items of the histories of `users` users, `events` of each.
    pub fn histories(&self, users: usize, events: usize) -> Vec<Vec<u32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut item = || rng.random_range(0..self.items as u32);
        (0..users).map(|_| (0..events).map(|_| item()).collect()).collect()
    }

    /// The same as a data set.
    pub fn dataset(&self, users: usize, events: usize) -> Dataset {
        let item = |i: usize| Item { id: i.to_string(), text: String::new(), fields: Vec::new() };
        let user = |(id, items): (usize, Vec<u32>)| User {
            id: id.to_string(),
            events: items.into_iter().map(|item| Event { item, kind: Feedback::Other }).collect(),
        };
        Dataset {
            name: "random".into(),
            columns: Vec::new(),
            text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: String::new() },
            items: (0..self.items).map(item).collect(),
            users: self.histories(users, events).into_iter().enumerate().map(user).collect(),
        }
    }
}
