//! Labelling a whole data set into files, and judging an LE on the users held out of its training.

use super::config::LeConfig;
use super::environment::Environment;
use super::label::{Labeller, TokenCount};
use super::label_blocks::Gap;
use super::label_writer::{Begun, LabelWriter, OpenFile};
use super::quality::{Judge, Quality};
use super::work::{Work, item_counts};
use crate::Result;
use crate::data::{Dataset, NegativeKind, NegativeSampler, Split, met_items};
use crate::interrupt;
use crate::progress::{MetricsLog, Progress};
use crate::tensor::checkpoint::Checkpoints;
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

    /// What labels this data. `met` is [`LeData::met`].
    pub(super) fn labeller<'a>(
        &self,
        env: &Environment,
        config: &'a LeConfig,
        seed: u64,
        met: &'a (dyn Fn(u32) -> Vec<u32> + Sync),
    ) -> Result<Labeller<'a>> {
        let negatives = NegativeSampler::new(NegativeKind::Uniform, &self.counts(), seed);
        Labeller::new(env, &config.label, config.fit.temperature, negatives, met)
    }

    /// Trunks of the LE's training users.
    pub fn fit_works(&self, history: usize) -> Vec<Work> {
        let of = |&user: &u32| {
            let events = &self.dataset.users[user as usize].events;
            Work::of_user(user, self.split.train_events(user as usize, events), history)
        };
        self.split.le.users.iter().flat_map(of).collect()
    }

    /// Trunks of the users held out of LE training, made as they are needed.
    pub fn held_out_works(&self, history: usize) -> impl Iterator<Item = Work> {
        self.split.le.held_out.iter().flat_map(move |&user| {
            let events = &self.dataset.users[user as usize].events;
            Work::of_user(user, self.split.held_out_events(user as usize, events), history)
        })
    }

    pub(super) fn works(&self, user: u32, history: usize) -> Vec<Work> {
        Work::of_user(user, &self.dataset.users[user as usize].events, history)
    }
}

/// Judges `env` on the held-out users, going on from what `keep` holds.
pub fn judge(
    env: &Environment,
    data: LeData,
    config: &LeConfig,
    seed: u64,
    keep: &mut Checkpoints,
) -> Result<Quality> {
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
    judge.judge(data.held_out_works(env.history), keep)
}

/// Labels the users of `writer`'s part, each with all steps, into its files. Memory holds the labels of some steps of
/// one pack. What earlier runs finished is kept; the count is of what this one did. `quality` is that of the LE on
/// held-out users, for the record of the first file.
pub fn label_all(
    env: &Environment,
    data: LeData,
    config: &LeConfig,
    seed: u64,
    writer: &LabelWriter,
    quality: &serde_json::Value,
    log: &mut MetricsLog,
) -> Result<TokenCount> {
    let met = |user: u32| data.met(user);
    let labeller = data.labeller(env, config, seed, &met)?;
    let part = writer.part();
    let mut progress = Progress::new("label", part.users().len() as u64, "users");
    let mut total = TokenCount::default();
    for file in part.own() {
        let users = part.users_of(file);
        let record = match writer.begin(file)? {
            Begun::Finished(record) => {
                progress.resume(users.len() as u64);
                *record
            }
            Begun::Open(mut open) => {
                if let Some(lost) = open.lost() {
                    eprintln!("{lost}");
                }
                total += label_file(&labeller, data, &users, &mut open, &mut progress)?;
                open.finish(if file == 0 { quality.clone() } else { serde_json::Value::Null })?
            }
        };
        // Of files that an earlier run finished too, so that the log of a resumed run is that of an undisturbed one.
        let rows = record.file.rows;
        log.write(&json!({"step": "label", "file": record.file.file, "users": users.end, "steps": rows}))?;
    }
    progress.finish();
    Ok(total)
}

/// Labels the steps of `users` that `file` does not hold yet.
fn label_file(
    labeller: &Labeller,
    data: LeData,
    users: &Range<u32>,
    file: &mut OpenFile,
    progress: &mut Progress,
) -> Result<TokenCount> {
    let mut total = TokenCount::default();
    let mut done = users.start;
    let ahead = |work: &Work| before(data.dataset, work);
    for gap in file.gaps() {
        let from = gap.0.map_or(users.start, |(user, _)| user);
        progress.resume(u64::from(from.saturating_sub(done)));
        done = done.max(from);
        let end = gap.1.map_or(users.end, |(user, _)| user + 1);
        let works = (from..end).flat_map(|user| data.works(user, labeller.history()));
        let works = works.filter_map(|work| within(work, gap));
        let mut begin = |pack: &[Work]| {
            let next = done.max(pack[0].user);
            progress.advance(u64::from(next - done));
            done = next;
            interrupt::check(&format!("labelling stopped at user {done}, all before are kept"))
        };
        total += labeller.label_all(works, &ahead, &mut begin, &mut |block| file.append(block))?;
    }
    progress.advance(u64::from(users.end - done));
    Ok(total)
}

/// The steps of `work` that lie in `gap`.
fn within(work: Work, gap: Gap) -> Option<Work> {
    let of = |step: Option<(u32, u32)>| step.filter(|step| step.0 == work.user).map(|step| step.1 as usize);
    let (after, before) = (of(gap.0), of(gap.1));
    work.only(after.map_or(0, |t| t + 1)..before.unwrap_or(usize::MAX))
}

/// Items of the user ahead of the trunk of `work`.
pub(super) fn before(dataset: &Dataset, work: &Work) -> Vec<u32> {
    let start = work.first_step - work.owned.start;
    dataset.users[work.user as usize].events[..start].iter().map(|e| e.item).collect()
}
