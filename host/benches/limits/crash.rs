//! The holder is killed: how long until the next owner runs.
//!
//! From just before `kill(2)` with `SIGKILL` to the reading of the clock by the waiter that then
//! has the lock. Most of it is the kernel taking the process down; nobody looks after anybody,
//! so the limit is a waiter in a blocking `flock(2)`.

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
            let had: u64 = waiter.answer();
            waiter.ask::<u64>("release");
            samples.push(had.saturating_sub(killed) as f64);
        })
        .target((name != FLOCK).then_some(Target::MedianAtMost(1e6)))
    });
    let title = "Crash: SIGKILL of the holder, until the next owner runs";
    report.add(compare(title, plan.rounds(100), contestants.into()));
}
