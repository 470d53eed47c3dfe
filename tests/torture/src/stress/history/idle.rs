//! How long a lock was free while a worker waited for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Attempt, End, Outcome};
use crate::stress::journal::Time;

/// A time for which a lock was free while somebody waited for it.
#[derive(Clone, Debug)]
pub struct IdlePeriod {
    /// Name of the lock.
    pub lock: String,
    /// Who held it before, if that one was killed.
    pub after_kill_of: Option<String>,
    /// How long somebody has been waiting while it was free.
    pub idle: Duration,
    /// What came of the wait.
    pub next: Attempt,
}

/// The turns of one lock. Several hold it in shared mode at once; it is free when none does.
pub(super) fn idle_periods(attempts: Vec<&Attempt>) -> Vec<IdlePeriod> {
    enum Moment<'a> {
        Left(Option<&'a str>),
        Asked,
        Answered(&'a Attempt),
    }
    let mut moments = Vec::new();
    for attempt in attempts {
        if let Outcome::CutOff(_) = attempt.outcome {
            continue;
        }
        moments.push((attempt.asked, Moment::Asked));
        moments.push((attempt.answered(), Moment::Answered(attempt)));
        match attempt.section().map(|section| &section.end) {
            // The signal is sent before it arrives.
            Some(End::CutOff { at }) => moments.push((
                (*at).max(attempt.answered()),
                Moment::Left(Some(attempt.worker.as_str())),
            )),
            Some(End::Left { at, .. } | End::Lost { at }) => {
                moments.push((*at, Moment::Left(None)));
            }
            None => {}
        }
    }
    moments.sort_by_key(|(time, _)| *time);
    let (mut holders, mut free, mut killed) = (0_u32, 0, None);
    // How many have been waiting since when.
    let mut waiting: BTreeMap<Time, u32> = BTreeMap::new();
    let mut turns = Vec::new();
    for (time, moment) in moments {
        match moment {
            Moment::Asked => *waiting.entry(time).or_default() += 1,
            Moment::Left(worker) => {
                holders = holders.saturating_sub(1);
                (free, killed) = (time, worker);
            }
            Moment::Answered(attempt) => {
                if holders == 0
                    && let Some((asked, _)) = waiting.first_key_value()
                {
                    turns.push(IdlePeriod {
                        lock: attempt.lock.clone(),
                        after_kill_of: killed.map(str::to_owned),
                        idle: Duration::from_nanos(time - free.max(*asked)),
                        next: attempt.clone(),
                    });
                }
                if attempt.section().is_some() {
                    (holders, killed) = (holders + 1, None);
                }
                if let Some(count) = waiting.get_mut(&attempt.asked) {
                    *count -= 1;
                    if *count == 0 {
                        waiting.remove(&attempt.asked);
                    }
                }
            }
        }
    }
    turns
}
