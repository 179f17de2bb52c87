//! Labelling a whole data set into files, and judging an LE on the users held out of its training.

use super::config::LeConfig;
use super::environment::Environment;
use super::label::{Labeller, TokenCount};
use super::label_blocks::Gap;
use super::label_files::LabelBlock;
use super::label_writer::{Begun, LabelWriter, OpenFile};
use super::quality::{Judge, Quality};
use super::work::Work;
use crate::Result;
use crate::data::{Dataset, Histories, NegativeKind, NegativeSampler, Split, met_items};
use crate::device::{cpu::release_free_buffers, profile};
use crate::interrupt;
use crate::progress::{MetricsLog, Progress};
use crate::tensor::checkpoint::Checkpoints;
use serde_json::json;
use std::ops::Range;

/// A data set as the LE sees it.
#[derive(Clone, Copy)]
pub struct LeData<'a> {
    /// Name, items and texts; its users are read through `users`.
    pub dataset: &'a Dataset,
    /// The users.
    pub users: &'a dyn Histories,
    /// Who trains, and who is held out.
    pub split: &'a Split,
}

impl<'a> LeData<'a> {
    /// A data set in memory.
    pub fn new(dataset: &'a Dataset, split: &'a Split) -> Self {
        LeData { dataset, users: dataset, split }
    }

    /// Number of training events of every item.
    ///
    /// # Errors
    /// Users that cannot be read, here and below.
    pub fn counts(&self) -> Result<Vec<u32>> {
        let mut counts = vec![0; self.dataset.items.len()];
        for user in 0..self.users.count() as u32 {
            let events = self.users.events(user)?;
            let known = self.split.train_events(user as usize, &events);
            known.iter().for_each(|event| counts[event.item as usize] += 1);
        }
        Ok(counts)
    }

    /// Items that are no negatives of `user`, ascending: those that training may know, or all of a user who does not
    /// train.
    pub fn met(&self, user: u32) -> Result<Vec<u32>> {
        let events = self.users.events(user)?;
        Ok(match self.split.train_events(user as usize, &events) {
            [] => met_items(self.split.held_out_events(user as usize, &events)),
            known => met_items(known),
        })
    }

    /// What labels this data. `met` is [`LeData::met`].
    pub(super) fn labeller<'b>(
        &self,
        env: &Environment,
        config: &'b LeConfig,
        seed: u64,
        met: &'b (dyn Fn(u32) -> Result<Vec<u32>> + Sync),
    ) -> Result<Labeller<'b>> {
        let negatives = NegativeSampler::new(NegativeKind::Uniform, &self.counts()?, seed);
        Labeller::new(env, &config.label, config.fit.temperature, negatives, met)
    }

    /// Trunks of the LE's training users.
    pub fn fit_works(&self, history: usize) -> Result<Vec<Work>> {
        let mut works = Vec::new();
        for &user in &self.split.le.users {
            let events = self.users.events(user)?;
            works.extend(Work::of_user(user, self.split.train_events(user as usize, &events), history));
        }
        Ok(works)
    }

    /// Trunks of the users held out of LE training, made as they are needed.
    pub fn held_out_works(&self, history: usize) -> impl Iterator<Item = Result<Work>> {
        let of = move |&user: &u32| {
            let events = self.users.events(user)?;
            Ok(Work::of_user(user, self.split.held_out_events(user as usize, &events), history))
        };
        self.split.le.held_out.iter().map(of).flat_map(each)
    }

    pub(super) fn works(&self, user: u32, history: usize) -> Result<Vec<Work>> {
        Ok(Work::of_user(user, &self.users.events(user)?, history))
    }

    /// Items of the user ahead of the trunk of `work`.
    pub(super) fn before(&self, work: &Work) -> Result<Vec<u32>> {
        let events = self.users.events(work.user)?;
        Ok(events[..work.first_step - work.owned.start].iter().map(|event| event.item).collect())
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
    // Neither loading nor training makes buffers of the sizes of a pack.
    release_free_buffers();
    let counts = data.counts()?;
    let met = |user: u32| data.met(user);
    let ahead = |work: &Work| data.before(work);
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
    whole(data.held_out_works(env.history), |works| judge.judge(works, keep))
}

/// The works of a user, or why there are none.
fn each(works: Result<Vec<Work>>) -> impl Iterator<Item = Result<Work>> {
    let (works, error) = works.map_or_else(|e| (Vec::new(), Some(e)), |works| (works, None));
    works.into_iter().map(Ok).chain(error.map(Err))
}

/// What `run` makes of `works`, or the error that cut them short.
fn whole<T>(
    works: impl Iterator<Item = Result<Work>>,
    run: impl FnOnce(&mut dyn Iterator<Item = Work>) -> Result<T>,
) -> Result<T> {
    let mut error = None;
    let mut good = works.map_while(|work| work.map_err(|e| error = Some(e)).ok());
    let result = run(&mut good);
    drop(good);
    error.map_or(result, Err)
}

/// Labels the users of `writer`'s part, each with all steps, into its files. Memory holds the labels of some steps of
/// one pack, and of the users what `data` holds. What earlier runs finished is kept; the count is of what this one did. `quality` is that of the LE on
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
    // Packs of judging have other sizes: more leaves a step.
    release_free_buffers();
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
    let ahead = |work: &Work| data.before(work);
    for gap in file.gaps() {
        let from = gap.0.map_or(users.start, |(user, _)| user);
        progress.resume(u64::from(from.saturating_sub(done)));
        done = done.max(from);
        let end = gap.1.map_or(users.end, |(user, _)| user + 1);
        let works = (from..end).flat_map(|user| each(data.works(user, labeller.history())));
        let mut begin = |pack: &[Work]| {
            let next = done.max(pack[0].user);
            progress.advance(u64::from(next - done));
            done = next;
            interrupt::check(&format!("labelling stopped at user {done}, all before are kept"))
        };
        total += whole(works, |works| {
            let works = works.filter_map(|work| within(work, gap));
            let mut append = |block: &LabelBlock| {
                let _range = profile::range(|| "write".into());
                file.append(block)
            };
            labeller.label_all(works, &ahead, &mut begin, &mut append)
        })?;
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
