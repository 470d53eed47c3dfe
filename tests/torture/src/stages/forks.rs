//! Processes fork at random, while their threads hold and wait for locks. The children drop what they
//! inherited, or run another program. Neither they nor their parents notice anything.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::stage::{Context, Outcome};
use crate::stress::plan::Workload;
use crate::stress::process::{Forks, Kind};
use crate::stress::workers::WorkerGroup;

/// How long the stage lasts.
const TIME: Duration = Duration::from_secs(25);

const PROCESSES: usize = 3;
const WORKERS: [Kind; 4] = [Kind::Blocking, Kind::Blocking, Kind::Task, Kind::Task];

/// How long a lock may be free while a worker waits for it. A parent that has lost its notices looks only
/// from time to time; with this many waiters, that would add up.
const TURN: Duration = Duration::from_secs(1);

/// The least number of children.
const LEAST: u64 = 200;

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut chance = context.chance(0);
    let workload = Workload {
        shared: 20,
        limited: 30,
        abandoned: 10,
        lasting: 30,
        longest: Duration::from_millis(5),
        forks: true,
        ..Workload::of_each_protocol()
    };
    let mut group = WorkerGroup::new()?;
    for number in 0..PROCESSES {
        group.start(&format!("p{number}"), chance.u64(..), &WORKERS, &workload)?;
    }
    context.pass(TIME, || {
        thread::sleep(Duration::from_millis(100));
        Ok(())
    })?;
    let layout = group.layout().clone();
    let finished = group.finish()?;
    let mut forks = Forks::default();
    for file in fs::read_dir(layout.forks())? {
        forks += serde_json::from_str(&fs::read_to_string(file?.path())?)?;
    }
    outcome.did("children that dropped everything", forks.dropped);
    outcome.did("children that ran a program", forks.ran);
    outcome.must(forks.dropped.min(forks.ran) >= LEAST, || {
        format!("too few children: {forks:?}")
    });
    outcome.must(forks.hung == 0, || format!("children hung: {forks:?}"));
    let turns = finished.history.idle_periods();
    if let Some(last) = turns.iter().max_by_key(|turn| turn.idle) {
        outcome.measured(
            "a lock was free with a waiter for at most",
            format_args!("{:.1?}", last.idle),
        );
        outcome.must(last.idle <= TURN, || {
            format!("a hand-off is late: {last:?}")
        });
    }
    finished.report(&mut outcome);
    Ok(outcome)
}
