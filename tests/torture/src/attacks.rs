//! Hostile guests: a part for each threat.

use std::thread;

use anyhow::Result;

use self::comparison::{attack_beside, compare};
use self::steps::{
    EXISTENCE, KEEP, KERNEL, REMOVE, ask, cycle, guest_in, hold, is_awaited, millis, number, renew,
    touch, with_rights,
};
use crate::stage::{Context, Outcome, Stage};

pub(crate) use self::steps::{in_runtime, one_of};

mod children;
mod comparison;
mod created;
mod databases;
mod deadlock;
mod exhaustion;
mod files;
mod handles;
mod holding;
mod paths;
mod pollables;
mod probing;
mod quotas;
mod removal;
mod secrets;
mod special;
mod steps;
mod storms;
pub mod support;
mod swaps;
mod takeover;
mod tenants;

/// Takes long and is not measured, so that others can run beside it.
static SWAPS: Stage = Stage {
    name: "swaps",
    what: "a path is exchanged for links that lead out while guests open it",
    promise: "nothing outside is opened or changed",
    run: swaps::run,
};

/// The parts that run beside it.
const PARTS: &[Stage] = &[
    Stage {
        name: "paths",
        what: "paths that lead out of the grant, and random strings",
        promise: "refused, or inside; nothing outside changes, and no file with content inside",
        run: paths::run,
    },
    Stage {
        name: "files",
        what: "foreign files under the names of lock files",
        promise: "content, size, mode and times stay",
        run: files::run,
    },
    Stage {
        name: "removal",
        what: "lock files that guests have removed on release",
        promise: "only empty, free lock files go, and only with the right",
        run: removal::run,
    },
    Stage {
        name: "takeover",
        what: "locks of living holders, attacked by removal and by false owner records",
        promise: "every holder keeps its lock",
        run: takeover::run,
    },
    Stage {
        name: "probing",
        what: "queries through an open lock whose path leads outside by now",
        promise: "answers do not depend on what is outside, and nothing there is opened",
        run: probing::run,
    },
    Stage {
        name: "quotas",
        what: "every limit of the table of limits, used up",
        promise: "exactly as many as documented, and the documented error",
        run: quotas::run,
    },
    Stage {
        name: "special files",
        what: "pipes, sockets, devices and directories as lock files",
        promise: "refused without blocking",
        run: special::run,
    },
    Stage {
        name: "created",
        what: "files without end, and reserved names",
        promise: "as many as the limit allows, no reserved name",
        run: created::run,
    },
    Stage {
        name: "handles",
        what: "forged, dropped and foreign handles",
        promise: "a trap or an error; no other guest loses its lock",
        run: handles::run,
    },
    Stage {
        name: "children",
        what: "processes started while a lock is held",
        promise: "no child inherits the lock",
        run: children::run,
    },
];

/// The parts that measure times, and so have the machine to themselves.
const MEASURED: &[Stage] = &[
    Stage {
        name: "exhaustion",
        what: "more handles, holds, waits and pollables than allowed",
        promise: "bounded descriptors, threads and memory; another guest is not disturbed",
        run: exhaustion::run,
    },
    Stage {
        name: "pollables",
        what: "pollables of locks that are closed",
        promise: "a trap at twice the limit on handles; bounded descriptors",
        run: pollables::run,
    },
    Stage {
        name: "waiting",
        what: "a thousand guests wait for one lock",
        promise: "one thread for all; another guest is not disturbed",
        run: exhaustion::crowd,
    },
    Stage {
        name: "holding",
        what: "holds without end, and traps",
        promise: "the next owner gets the lock after the limit on holds, or at once after a trap",
        run: holding::run,
    },
    Stage {
        name: "storms",
        what: "acquires that are begun and abandoned",
        promise: "another guest still gets the lock",
        run: storms::run,
    },
    Stage {
        name: "databases",
        what: "hostile databases, and databases inside of grants",
        promise: "calls end in time, nothing is created elsewhere, refused inside of grants",
        run: databases::run,
    },
    Stage {
        name: "tenants",
        what: "a tenant uses all that its limits allow",
        promise: "waits and free locks of another tenant are as fast as before",
        run: tenants::run,
    },
    Stage {
        name: "deadlock",
        what: "guests that wait for one another in a circle",
        promise: "exactly one of them gets the error `deadlock`",
        run: deadlock::run,
    },
];

/// Looks through what the guests of all other parts saw.
static SECRETS: Stage = Stage {
    name: "secrets",
    what: "all bytes that the guests of the other attacks saw",
    promise: "no path, number, name or message of the host",
    run: secrets::run,
};

/// Every part, in the order of the reports.
pub fn parts() -> impl Iterator<Item = &'static Stage> {
    PARTS
        .iter()
        .chain([&SWAPS])
        .chain(MEASURED)
        .chain([&SECRETS])
}

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let parts = parts().count();
    context.progress.set_length(parts as u64);
    let report = |stage: &Stage| {
        context.progress.set_message(stage.name);
        let report = stage.report(context);
        context.progress.inc(1);
        report
    };
    thread::scope(|scope| {
        let swaps = scope.spawn(|| report(&SWAPS));
        PARTS.iter().for_each(|part| outcome.take(report(part)));
        outcome.take(swaps.join().expect("a part does not panic"));
    });
    for part in MEASURED.iter().chain([&SECRETS]) {
        outcome.take(report(part));
    }
    outcome.did("threats", parts as u64);
    Ok(outcome)
}
