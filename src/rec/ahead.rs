//! Batches prepared on a thread of their own while the one before them is trained on.

use super::feed::{Feed, StepData};
use crate::Result;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// The data of the optimiser steps on `batches` (indices of users, and the epoch that they are drawn for) in their order;
/// one of them waits while the next is made. It ends after the first error, and when nobody listens any more.
pub fn ahead<'scope, 'a: 'scope, B>(
    scope: &'scope Scope<'scope, '_>,
    feed: &'a Feed<'a>,
    batches: impl Iterator<Item = (B, u32)> + Send + 'scope,
) -> Receiver<Result<StepData>>
where
    B: AsRef<[usize]>,
{
    let (sender, receiver) = sync_channel(1);
    scope.spawn(move || {
        for (batch, epoch) in batches {
            let data = feed.step(batch.as_ref(), epoch);
            let last = data.is_err();
            if sender.send(data).is_err() || last {
                break;
            }
        }
    });
    receiver
}
