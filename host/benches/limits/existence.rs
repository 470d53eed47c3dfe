//! Existence locks: what they cost, and how soon the next holder has them.
//!
//! Uncontended, the limit is to create the entry and to remove it, by the same system calls and
//! without any check. Locket checks before the release that the entry is still its own, and keeps
//! other programs from breaking the lock in between. For hand-offs and killed holders, the baseline
//! is the library that defines the protocol. Those libraries poll, so the release comes at a moment
//! that is independent of their polling.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use locket::Protocol;

use crate::Plan;
use crate::handoff::{contender, protocol_name};
use crate::measure::{Contestant, compare, now};
use crate::methods::{Api, Method, Turn};
use crate::peers::{Library, handed};
use crate::process::{Place, Process};
use crate::report::{Report, Section};

const NAMES: [Protocol; 5] = [
    Protocol::Link,
    Protocol::Symlink,
    Protocol::Mkdir,
    Protocol::PidFile,
    Protocol::Soft,
];

/// The libraries that define the protocols, and how to call them.
const LIBRARIES: [(Protocol, Library); 5] = [
    (Protocol::Link, Library::python("LinkLockFile", 50, NONE)),
    (
        Protocol::Symlink,
        Library::python("SymlinkLockFile", 50, NONE),
    ),
    (Protocol::Mkdir, Library::python("MkdirLockFile", 50, NONE)),
    (Protocol::PidFile, Library::python("PIDLockFile", 50, NONE)),
    (Protocol::Soft, Library::python("SoftFileLock", 25, NONE)),
];
const NONE: [Option<f64>; 2] = [None, None];

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    for protocol in NAMES {
        report.add(uncontended(plan, protocol));
    }
    for (protocol, library) in &LIBRARIES {
        match hand_off(plan, *protocol, library) {
            Some(section) => report.add(section),
            None => report.skip(library.name, "not installed; tests/peers installs it"),
        }
    }
    report.add(crash(plan));
}

fn ours(protocol: Protocol) -> Method {
    Method::Locket {
        api: Api::Blocking,
        protocol,
        pinned: false,
    }
}

fn uncontended(plan: &Plan, protocol: Protocol) -> Section {
    const BATCH: u32 = 50;
    let dir = plan.dir.path().join(format!("bare-{protocol}"));
    fs::create_dir(&dir).unwrap();
    let path = dir.join("lock");
    fn turns<'a>(name: &str, mut turn: Turn<'a>) -> Contestant<'a> {
        Contestant::batch(name, BATCH, move |count| {
            (0..count).for_each(|_| turn(&mut || {}));
        })
    }
    let contestants = vec![
        turns("make and remove it", raw(protocol, &dir)),
        turns("locket, on a handle", ours(protocol).on_a_handle(&path)),
        turns("locket, by path", ours(protocol).by_path(&path)),
    ];
    let title = format!("Uncontended, {protocol}");
    compare(&title, plan.rounds(40), contestants)
}

/// The bare system calls.
fn raw(protocol: Protocol, dir: &Path) -> Turn<'_> {
    let (own, lock) = (dir.join("own"), dir.join("raw.lock"));
    let new = |path: &Path| -> File {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).open(path).unwrap()
    };
    Box::new(move |held| {
        match protocol {
            Protocol::Link => {
                new(&own);
                fs::hard_link(&own, &lock).unwrap();
                held();
                fs::remove_file(&own).unwrap();
            }
            Protocol::Symlink => {
                symlink("own", &lock).unwrap();
                held();
            }
            Protocol::Mkdir => {
                fs::create_dir(&lock).unwrap();
                new(&lock.join("own"));
                held();
                fs::remove_file(lock.join("own")).unwrap();
                return fs::remove_dir(&lock).unwrap();
            }
            _ => {
                new(&lock).write_all(b"12345\n").unwrap();
                held();
            }
        }
        fs::remove_file(&lock).unwrap();
    })
}

fn hand_off(plan: &Plan, protocol: Protocol, library: &Library) -> Option<Section> {
    let path = plan.dir.path().join(format!("handed-{protocol}"));
    let places = [Place::First, Place::Others];
    let [holder, waiter] = places.map(|place| contender(place, &protocol_name(protocol), &path));
    let theirs = plan.dir.path().join(library.name);
    let (their_holder, name) = library.start(&theirs)?;
    let (their_waiter, _) = library.start(&theirs)?;
    let contestants = vec![
        handed("locket", holder, waiter),
        handed(&name, their_holder, their_waiter),
    ];
    let title = format!("Hand-off between processes, {protocol}");
    Some(compare(&title, plan.rounds(24), contestants))
}

fn crash(plan: &Plan) -> Section {
    let contestants = NAMES.map(|protocol| {
        let path = plan.dir.path().join(format!("crash-{protocol}"));
        let start = move |place| -> Process { contender(place, &protocol_name(protocol), &path) };
        let mut waiter = start(Place::Others);
        let mut part = 0.0_f64;
        Contestant::new(format!("locket, {protocol}"), move |samples| {
            part = (part + 0.618_034).fract();
            let mut holder = start(Place::First);
            holder.hold();
            waiter.wait(None);
            std::thread::sleep(Duration::from_millis(250).mul_f64(part));
            let killed = now();
            // Also waited for: until then it is not gone.
            drop(holder);
            let granted: u64 = waiter.answer();
            waiter.ask::<u64>("release");
            samples.push(granted.saturating_sub(killed) as f64);
        })
    });
    let title = "Crash: SIGKILL of the holder of a name, until the next owner runs";
    compare(title, plan.rounds(24), contestants.into())
}
