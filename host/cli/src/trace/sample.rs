//! What one look at a path tells: each process that holds or awaits the lock, once.

use locket::Protocol;

use crate::status::report::{self, Mode, Report, Unknown};

/// A process as the picture knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// None if it cannot be told.
    pub(super) pid: Option<i32>,
    /// Whether it runs in another container or on another host, where the number is another's.
    pub(super) elsewhere: bool,
    /// When it started, in seconds since 1970.
    pub(super) started: Option<u64>,
    pub(super) command: Option<String>,
}

/// Whether a process holds the lock. The stronger one comes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum State {
    Held,
    Waits,
}

/// What a process does with a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Doing {
    pub(super) state: State,
    pub(super) mode: Mode,
    pub(super) protocol: Protocol,
}

/// A process and what it does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) process: Process,
    pub(super) doing: Doing,
}

impl Seen {
    /// Whether it is of that process, which was in that state. Of processes that cannot be told, a
    /// holder and a waiter are two.
    pub(super) fn is_of(&self, process: &Process, state: State) -> bool {
        let is_told = process.pid.is_some();
        self.process.is(process) && (is_told || self.doing.state == state)
    }
}

impl Process {
    /// Whether it is that one. A number can be reused. The times of starts are rounded in one way or
    /// the other, and missing for a process that is about to end.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same_start = match (self.started, other.started) {
            (Some(one), Some(other)) => one.abs_diff(other) <= 1,
            _ => true,
        };
        (self.pid, self.elsewhere) == (other.pid, other.elsewhere) && same_start
    }

    fn of(process: report::Process, elsewhere: bool) -> Self {
        Self {
            pid: process.pid,
            elsewhere,
            started: process.started,
            command: process.command,
        }
    }
}

impl Doing {
    /// Whether the picture shows the two alike.
    pub(super) fn looks_like(self, other: Self) -> bool {
        (self.state, self.mode) == (other.state, other.mode)
    }
}

/// The processes that a report names. What may be no lock does not count.
pub(super) fn seen(report: Report) -> Vec<Seen> {
    let certain = report.unknown != Some(Unknown::MayBeNoLock);
    let mut all = Vec::new();
    for holder in report.holders.into_iter().filter(|_| certain) {
        let doing = Doing {
            state: State::Held,
            // Linux tells it.
            mode: holder.mode.unwrap_or(report::Mode::Exclusive),
            protocol: holder.protocol,
        };
        let process = Process::of(holder.process, holder.elsewhere);
        add(&mut all, Seen { process, doing });
    }
    for waiter in report.waiters {
        let doing = Doing {
            state: State::Waits,
            mode: waiter.mode,
            protocol: waiter.protocol,
        };
        let process = Process::of(waiter.process, false);
        add(&mut all, Seen { process, doing });
    }
    all
}

/// Adds what a process does, or keeps the strongest of all that it does.
fn add(all: &mut Vec<Seen>, new: Seen) {
    let is_known = |seen: &&mut Seen| new.is_of(&seen.process, seen.doing.state);
    let Some(known) = all.iter_mut().find(is_known) else {
        return all.push(new);
    };
    let (old, new) = (known.doing, new.doing);
    if is_half_of_native(old, new) {
        known.doing = Doing {
            protocol: Protocol::Native,
            ..new
        };
    } else if (new.state, new.mode) < (old.state, old.mode) {
        known.doing = new;
    }
}

/// Whether a process that holds a lock of one family waits for one of the other. A user of both has
/// acquired nothing then.
fn is_half_of_native(held: Doing, awaited: Doing) -> bool {
    (held.state, awaited.state) == (State::Held, State::Waits)
        && matches!(
            (held.protocol, awaited.protocol),
            (Protocol::Flock, Protocol::Fcntl) | (Protocol::Fcntl, Protocol::Flock)
        )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn holder(pid: i32, protocol: Protocol, mode: Mode) -> report::Holder {
        report::Holder {
            process: report::Process {
                pid: Some(pid),
                ..report::Process::default()
            },
            protocol,
            mode: Some(mode),
            ranges: Vec::new(),
            acquired_by: None,
            since: None,
            host: None,
            elsewhere: false,
        }
    }

    fn waiter(pid: i32, protocol: Protocol, mode: Mode) -> report::Waiter {
        let process = holder(pid, protocol, mode).process;
        report::Waiter {
            process,
            protocol,
            mode,
        }
    }

    fn seen_of(holders: &[report::Holder], waiters: &[report::Waiter]) -> Vec<(i32, Doing)> {
        let report = Report {
            unknown: None,
            holders: holders.to_vec(),
            waiters: waiters.to_vec(),
            ..Report::unknown(Path::new("lock"), Unknown::NoAnswer)
        };
        let seen = seen(report).into_iter();
        seen.map(|seen| (seen.process.pid.unwrap(), seen.doing))
            .collect()
    }

    #[test]
    fn a_process_is_seen_once_with_the_strongest_that_it_does() {
        use Protocol::{Fcntl, Flock, Native};
        let (shared, exclusive) = (Mode::Shared, Mode::Exclusive);
        let doing = |state, mode, protocol| Doing {
            state,
            mode,
            protocol,
        };
        let held = [holder(1, Flock, shared), holder(1, Fcntl, exclusive)];
        let expected = [(1, doing(State::Held, exclusive, Fcntl))];
        assert_eq!(seen_of(&held, &[]), expected);
        // It waits for an upgrade.
        let upgrade = seen_of(
            &[holder(1, Flock, shared)],
            &[waiter(1, Flock, exclusive), waiter(2, Flock, shared)],
        );
        let expected = [
            (1, doing(State::Held, shared, Flock)),
            (2, doing(State::Waits, shared, Flock)),
        ];
        assert_eq!(upgrade, expected);
        // With one family in its hand, a user of both has acquired nothing.
        let half = seen_of(
            &[holder(1, Flock, exclusive)],
            &[waiter(1, Fcntl, exclusive)],
        );
        assert_eq!(half, [(1, doing(State::Waits, exclusive, Native))]);
    }

    #[test]
    fn an_unknown_holder_and_an_unknown_waiter_are_two() {
        let unknown = report::Process::default;
        let (protocol, mode) = (Protocol::Fcntl, Mode::Exclusive);
        let holder = report::Holder {
            process: unknown(),
            ..holder(1, protocol, mode)
        };
        let waiter = report::Waiter {
            process: unknown(),
            ..waiter(1, protocol, mode)
        };
        let report = Report {
            unknown: None,
            holders: vec![holder],
            waiters: vec![waiter.clone(), waiter],
            ..Report::unknown(Path::new("lock"), Unknown::NoAnswer)
        };
        let states = seen(report).into_iter().map(|seen| seen.doing.state);
        assert_eq!(states.collect::<Vec<_>>(), [State::Held, State::Waits]);
    }

    #[test]
    fn what_may_be_no_lock_does_not_count() {
        let report = Report {
            holders: vec![holder(1, Protocol::PidFile, Mode::Exclusive)],
            ..Report::unknown(Path::new("lock"), Unknown::MayBeNoLock)
        };
        assert_eq!(seen(report), []);
    }

    #[test]
    fn a_number_with_another_start_is_another_process() {
        let process = |started| Process {
            pid: Some(7),
            started,
            ..Process::default()
        };
        assert!(process(Some(10)).is(&process(Some(11))));
        assert!(process(Some(10)).is(&process(None)));
        assert!(!process(Some(10)).is(&process(Some(12))));
        let elsewhere = Process {
            elsewhere: true,
            ..process(Some(10))
        };
        assert!(!process(Some(10)).is(&elsewhere));
    }
}
