//! How long a lock was free while a worker waited for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Attempt, End, Outcome};
use crate::stress::journal::Time;

/// A time during which a lock was free while a worker waited for it.
#[derive(Clone, Debug)]
pub struct IdlePeriod {
    /// Name of the lock.
    pub lock: String,
    /// The last holder, if it was killed.
    pub after_kill_of: Option<String>,
    /// How long a worker waited while the lock was free.
    pub idle: Duration,
    /// The attempt that ended this time.
    pub next: Attempt,
}

/// The idle periods of one lock. It is free when no worker holds it in either mode.
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
            // The time is that of sending the signal, which arrives later.
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
    // How many workers have been waiting since when.
    let mut waiting: BTreeMap<Time, u32> = BTreeMap::new();
    let mut periods = Vec::new();
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
                    periods.push(IdlePeriod {
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
    periods
}
