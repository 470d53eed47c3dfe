//! Without contention: what a lock and unlock cost.
//!
//! By path, the limit is to open the file, lock it, and compare the descriptor with the path,
//! since a lock on a file that was replaced excludes no program. `fs4`, `fd-lock` and the standard
//! library leave that comparison out. On an open handle whose file is promised to stay, the limit
//! is the system calls that lock and unlock. Each with `flock(2)` alone, and with both families
//! of the native protocol. A sample is the mean over a batch.

use std::path::Path;

use locket::{Engine, Options, Protocol};

use crate::Plan;
use crate::measure::{Contestant, compare};
use crate::methods::{Api, EX, Method, Turn};
use crate::report::{Report, Section, Target};

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    let path = &plan.file("uncontended");
    for protocol in [Protocol::Flock, Protocol::Native] {
        report.add(by_path(plan, path, protocol));
    }
    for protocol in [Protocol::Flock, Protocol::Native] {
        report.add(pinned(plan, path, protocol));
    }
    report.add(checked(plan, path));
}

fn contestant<'a>(name: &str, batch: u32, mut turn: Turn<'a>) -> Contestant<'a> {
    Contestant::batch(name, batch, move |count| {
        (0..count).for_each(|_| turn(&mut || {}));
    })
}

/// Other libraries, which know `flock(2)` only.
fn others(protocol: Protocol) -> Vec<(&'static str, Method)> {
    match protocol {
        Protocol::Flock => vec![
            ("fs4", Method::Fs4),
            ("fd-lock", Method::FdLock),
            ("std::fs::File::lock", Method::Std),
        ],
        _ => Vec::new(),
    }
}

fn ours(protocol: Protocol, pinned: bool) -> [(&'static str, Method); 3] {
    [
        ("locket, blocking", Api::Blocking),
        ("locket, blocking, with a timeout", Api::Timeout),
        ("locket, async", Api::Async),
    ]
    .map(|(name, api)| {
        let manner = Method::Locket {
            api,
            protocol,
            pinned,
        };
        (name, manner)
    })
}

fn by_path(plan: &Plan, path: &Path, protocol: Protocol) -> Section {
    const BATCH: u32 = 200;
    let raw = match protocol {
        Protocol::Flock => "raw open + flock + fstat + stat + close",
        _ => "raw open + flock + record lock + fstat + stat + close",
    };
    let checked = true;
    let limit = Method::Raw { protocol, checked }.by_path(path);
    let mut contestants = vec![contestant(raw, BATCH, limit)];
    for (name, manner) in others(protocol) {
        let name = format!("{name}, without the check");
        contestants.push(contestant(&name, BATCH, manner.by_path(path)));
    }
    for (name, manner) in ours(protocol, false) {
        let ours = contestant(name, BATCH, manner.by_path(path));
        contestants.push(ours.target(Target::RatioAtMost(1.10)));
    }
    let title = format!("Uncontended, by path with identity check, {protocol}");
    compare(&title, plan.rounds(200), contestants)
}

fn pinned(plan: &Plan, path: &Path, protocol: Protocol) -> Section {
    const BATCH: u32 = 500;
    let raw = match protocol {
        Protocol::Flock => "raw flock + unlock",
        _ => "raw flock + record lock + both unlocked",
    };
    let checked = false;
    let limit = Method::Raw { protocol, checked }.on_a_handle(path);
    let mut contestants = vec![contestant(raw, BATCH, limit)];
    for (name, manner) in others(protocol) {
        contestants.push(contestant(name, BATCH, manner.on_a_handle(path)));
    }
    for (name, manner) in ours(protocol, true) {
        let ours = contestant(name, BATCH, manner.on_a_handle(path));
        contestants.push(ours.target(Target::RatioAtMost(1.20)));
    }
    let title = format!("Uncontended, on an open handle, no identity check, {protocol}");
    compare(&title, plan.rounds(200), contestants)
}

fn checked(plan: &Plan, path: &Path) -> Section {
    const BATCH: u32 = 500;
    let limit = Method::Raw {
        protocol: Protocol::Flock,
        checked: true,
    };
    let limit = limit.on_a_handle(path);
    let mut contestants = vec![contestant(
        "raw flock + fstat + stat + unlock",
        BATCH,
        limit,
    )];
    for (name, manner) in ours(Protocol::Flock, false) {
        contestants.push(contestant(name, BATCH, manner.on_a_handle(path)));
    }
    let options = Options::new().protocol(Protocol::Flock);
    let lock = Engine::new().open_with(path, &options).unwrap();
    let released = Box::new(move |held: &mut dyn FnMut()| {
        let guard = lock.acquire(EX, None).unwrap();
        held();
        guard.release().unwrap();
    });
    let name = "locket, blocking, checked again at release";
    contestants.push(contestant(name, BATCH, released));
    let title = "Uncontended, on an open handle, with identity check, flock";
    compare(title, plan.rounds(200), contestants)
}
