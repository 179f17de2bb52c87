//! Labelling a whole data set into files, and judging an LE on the users held out of its training.

use super::config::LeConfig;
use super::environment::Environment;
use super::label::{Labeller, TokenCount};
use super::label_files::LabelBlock;
use super::label_writer::LabelWriter;
use super::quality::{Judge, Quality};
use super::work::{Work, item_counts};
use crate::Result;
use crate::data::{Dataset, NegativeKind, NegativeSampler, Split, met_items};
use crate::progress::{MetricsLog, Progress};
use serde_json::json;
use std::ops::Range;

/// A data set as the LE sees it.
#[derive(Clone, Copy)]
pub struct LeData<'a> {
    /// Items and users.
    pub dataset: &'a Dataset,
    /// Who trains, and who is held out.
    pub split: &'a Split,
}

impl LeData<'_> {
    /// Number of training events of every item.
    pub fn counts(&self) -> Vec<u32> {
        let users = self.dataset.users.iter().enumerate();
        item_counts(self.dataset, users.map(|(u, user)| self.split.train_events(u, &user.events)))
    }

    /// Items that are no negatives of `user`, ascending: those that training may know, or all of a user who does not
    /// train.
    pub fn met(&self, user: u32) -> Vec<u32> {
        let events = &self.dataset.users[user as usize].events;
        match self.split.train_events(user as usize, events) {
            [] => met_items(self.split.held_out_events(user as usize, events)),
            known => met_items(known),
        }
    }

    /// Trunks of the LE's training users.
    pub fn fit_works(&self, history: usize) -> Vec<Work> {
        let of = |&user: &u32| {
            let events = &self.dataset.users[user as usize].events;
            Work::of_user(user, self.split.train_events(user as usize, events), history)
        };
        self.split.le.users.iter().flat_map(of).collect()
    }

    /// Trunks of the users held out of LE training.
    pub fn held_out_works(&self, history: usize) -> Vec<Work> {
        let of = |&user: &u32| {
            let events = &self.dataset.users[user as usize].events;
            Work::of_user(user, self.split.held_out_events(user as usize, events), history)
        };
        self.split.le.held_out.iter().flat_map(of).collect()
    }

    fn works(&self, users: Range<u32>, history: usize) -> Vec<Work> {
        users.flat_map(|u| Work::of_user(u, &self.dataset.users[u as usize].events, history)).collect()
    }
}

/// Judges `env` on the held-out users.
pub fn judge(env: &Environment, data: LeData, config: &LeConfig, seed: u64) -> Result<Quality> {
    let counts = data.counts();
    let met = |user: u32| data.met(user);
    let ahead = |work: &Work| before(data.dataset, work);
    let env = env.merged()?;
    let judge = Judge {
        env: &env,
        fit: &config.fit,
        label: &config.label,
        counts: &counts,
        met: &met,
        before: &ahead,
        seed,
    };
    judge.judge(&data.held_out_works(env.history))
}

/// Number of label files for `users` users.
pub fn label_files_of(users: usize, config: &LeConfig) -> usize {
    users.div_ceil(config.label.users_per_file).max(1)
}

/// Labels every step of every user of `data` into the files of `writer`; memory holds one file's labels at a time.
pub fn label_all(
    env: &Environment,
    data: LeData,
    config: &LeConfig,
    seed: u64,
    writer: &LabelWriter,
    log: &mut MetricsLog,
) -> Result<TokenCount> {
    let counts = data.counts();
    let negatives = NegativeSampler::new(NegativeKind::Uniform, &counts, seed);
    let met = |user: u32| data.met(user);
    let labeller = Labeller::new(env, &config.label, config.fit.temperature, negatives, &met)?;
    let users = data.dataset.users.len();
    let files = label_files_of(users, config);
    let mut progress = Progress::new("label", users as u64, "users");
    let mut total = TokenCount::default();
    for file in 0..files {
        let first = file * config.label.users_per_file;
        let range = first as u32..(first + config.label.users_per_file).min(users) as u32;
        let works = data.works(range.clone(), env.history);
        let mut block = LabelBlock::new(range.clone());
        let mut done = range.start;
        for pack in labeller.packs(&works) {
            let next = works.get(pack.end).map_or(range.end, |w| w.user);
            total += labeller.label(&works[pack], &|work| before(data.dataset, work), &mut block)?;
            progress.advance(u64::from(next - done));
            done = next;
        }
        progress.advance(u64::from(range.end - done));
        writer.write_block(file, files, &block)?;
        log.write(&json!({
            "step": "label", "users": range.end, "labels": total.labels,
            "rows": total.forest, "separate_rows": total.separate,
        }))?;
    }
    progress.finish();
    Ok(total)
}

/// Items of the user ahead of the trunk of `work`.
fn before(dataset: &Dataset, work: &Work) -> Vec<u32> {
    let start = work.first_step - work.owned.start;
    dataset.users[work.user as usize].events[..start].iter().map(|e| e.item).collect()
}
