//! A lock is handed over again and again: between two processes, and down a queue of many waiters.
//! Each waiter gets the lock in its turn, without delay. A lost wake-up would show as a lock that is
//! free while a waiter waits.

use std::time::Duration;

use anyhow::Result;
use locket::Protocol;

use crate::stage::{Context, Outcome};
use crate::stress::plan::{Lock, Workload};
use crate::stress::process::Kind;
use crate::stress::workers::WorkerGroup;

/// How long a lock may be free while a waiter waits for it. A hand-off takes microseconds, that of an
/// existence lock some milliseconds; the rest is for a busy machine.
const TURN: Duration = Duration::from_secs(1);

/// How long a worker holds the lock at most, and how long it then lets others go first.
const HOLD: Duration = Duration::from_micros(200);
const REST: Duration = Duration::from_micros(100);

/// What two processes use, and how often each of them gets the lock.
const PING_PONG: [(Protocol, Kind, u64); 6] = [
    (Protocol::Native, Kind::Blocking, 5000),
    (Protocol::Native, Kind::Task, 5000),
    (Protocol::Flock, Kind::Blocking, 2000),
    (Protocol::Fcntl, Kind::Task, 2000),
    (Protocol::Link, Kind::Blocking, 500),
    (Protocol::Soft, Kind::Task, 500),
];

/// Processes with some waiters each, and how often each of those gets the lock.
const PROCESSES: usize = 16;
const WAITERS: [Kind; 4] = [Kind::Blocking, Kind::Task, Kind::Blocking, Kind::Task];
const TURNS: u64 = 160;

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut chance = context.chance(0);
    let pairs = PING_PONG.map(|(protocol, kind, turns)| (protocol, 2, vec![kind], turns));
    let queue = (Protocol::Native, PROCESSES, WAITERS.to_vec(), TURNS);
    let rounds = || pairs.iter().chain([&queue]);
    let due = |(_, processes, workers, turns): &Round| (processes * workers.len()) as u64 * turns;
    context.progress.set_length(rounds().map(due).sum());
    let mut latest = Duration::ZERO;
    for round in rounds() {
        let (protocol, processes, workers, turns) = round;
        let workload = Workload {
            lasting: 100,
            longest: HOLD,
            rest: REST,
            sections: Some(*turns),
            ..Workload::of(vec![Lock::of(*protocol)])
        };
        let mut group = WorkerGroup::new()?;
        for number in 0..*processes {
            group.start(&format!("p{number}"), chance.u64(..), workers, &workload)?;
        }
        let finished = group.wait()?;
        context.progress.inc(due(round));
        let sections = finished.history.sections() as u64;
        outcome.must(sections == due(round), || {
            format!("{sections} sections, not {}, in {round:?}", due(round))
        });
        let kind = match processes {
            2 => "hand-offs between two",
            _ => "hand-offs in a queue of 64",
        };
        outcome.did(kind, finished.history.hand_offs());
        let turns = finished.history.idle_periods();
        if let Some(last) = turns.iter().max_by_key(|turn| turn.idle) {
            latest = latest.max(last.idle);
            outcome.must(last.idle <= TURN, || {
                format!("a hand-off is late: {last:?}")
            });
        }
        finished.report(&mut outcome);
    }
    outcome.measured(
        "a lock was free with a waiter for at most",
        format_args!("{latest:.1?}"),
    );
    Ok(outcome)
}

/// A protocol, the number of processes, their workers, and how often each worker gets the lock.
type Round = (Protocol, usize, Vec<Kind>, u64);
