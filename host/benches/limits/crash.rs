//! The holder is killed: how long until the next owner runs.
//!
//! The time runs from just before `kill(2)` with `SIGKILL` until the waiter that then holds the lock
//! reads the clock. The kernel spends most of it on taking the process down. No process watches
//! another, so the limit is a waiter in a blocking `flock(2)`.

use crate::Plan;
use crate::handoff::{ASYNC, BLOCKING, FLOCK, TIMEOUT, contender};
use crate::measure::{Contestant, compare};
use crate::process::{Place, inode};
use crate::report::{Report, Target};

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    let path = &plan.file("crash");
    let inode = inode(path);
    let contestants = [FLOCK, BLOCKING, TIMEOUT, ASYNC].map(|name| {
        let mut waiter = contender(Place::Others, name, path);
        Contestant::new(name, move |samples| {
            let mut holder = contender(Place::First, name, path);
            holder.hold();
            waiter.wait(Some(inode));
            let killed = holder.kill();
            let granted: u64 = waiter.answer();
            waiter.ask::<u64>("release");
            samples.push(granted.saturating_sub(killed) as f64);
        })
        .target((name != FLOCK).then_some(Target::MedianAtMost(1e6)))
    });
    let title = "Crash: SIGKILL of the holder, until the next owner runs";
    report.add(compare(title, plan.rounds(100), contestants.into()));
}
