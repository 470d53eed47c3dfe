//! Another program keeps a write transaction open for a while, again and again. Rows of that database
//! exclude as ever, and all waits end on time: for the rows, and for locks elsewhere in the same engines.

use std::time::Duration;

use anyhow::{Result, ensure};
use locket::{Engine, Mode, Protocol};
use locket_test_support::process::Process;

use super::interruptions::{self, PROCESSES, WORKERS, at_random, brief};
use crate::stage::{Context, Outcome};
use crate::stress::plan::Lock;
use crate::stress::workers::WorkerGroup;

/// How long the stage lasts.
const TIME: Duration = Duration::from_secs(30);

/// How the rows are called.
const ROW: &str = "row-";

/// Begins and ends a transaction by turns.
const PROGRAM: &str = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for line in sys.stdin:
    database.execute(line)
    print('ok', flush=True)
";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut chance = context.chance(0);
    let rows = [1, 2].map(|number| Lock::named(&format!("{ROW}{number}"), Protocol::Sqlite));
    let elsewhere = [Protocol::Native, Protocol::Mkdir].map(Lock::of);
    let workload = brief(&elsewhere, &rows);
    let mut group = WorkerGroup::new()?;
    let layout = group.layout().clone();
    // Makes the database.
    let first = Engine::new().open_with(layout.lock(&rows[0]), &rows[0].options(&layout))?;
    first.acquire(Mode::Exclusive, None)?.release()?;
    let mut program = Process::python(PROGRAM, &layout.database());
    for number in 0..PROCESSES {
        group.start(&format!("p{number}"), chance.u64(..), &WORKERS, &workload)?;
    }
    let stops = at_random(context, &mut chance, TIME, |stopped| {
        let answer = program.ask(if stopped { "begin immediate" } else { "commit" });
        ensure!(answer == "ok", "{answer}");
        Ok(())
    })?;
    let finished = group.finish()?;
    let is_row = |lock: &str| lock.starts_with(ROW);
    let latest = interruptions::check(
        &finished.history.attempts,
        &stops,
        is_row,
        is_row,
        &mut outcome,
    );
    interruptions::measured(latest, &mut outcome);
    finished.report(&mut outcome);
    Ok(outcome)
}
