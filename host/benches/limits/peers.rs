//! What programs in other languages use: Python's `filelock`, `fasteners`, `portalocker` and
//! `locket` (locket.py, which is another), Node's `proper-lockfile`, against ours.
//!
//! Each contestant creates a lock object once and takes turns with it, ours in the native protocol with
//! all checks and a timeout. Uncontended, the time is taken inside the interpreter, over a batch.
//! Handed from one process to another of the same library, it is that from just before the
//! release to just after the acquire. All of them but ours look again from time to time, so the
//! release comes at a moment that has nothing to do with theirs: once the waiter sleeps, and then
//! some part of 250 ms later, another part in each round.
//!
//! `tests/peers` installs them into `target/peers`; otherwise those of the system are taken.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use locket::Protocol;

use crate::Plan;
use crate::handoff::{NATIVE, contender};
use crate::measure::{Contestant, compare};
use crate::methods::{Api, Method};
use crate::process::{Place, Process, hand_off};
use crate::report::{Report, Target};

/// A library, the size of its batches, and how often as long as ours it is to take, uncontended
/// and handed over.
pub(crate) struct Library {
    pub(crate) name: &'static str,
    node: bool,
    batch: u32,
    targets: [Option<f64>; 2],
}

pub(crate) const HAND_OFF: &str = "Other languages, hand-off between processes with a timeout";

const LIBRARIES: [Library; 6] = [
    Library::python("filelock", 50, [Some(150.0), Some(500.0)]),
    Library::python("SoftFileLock", 25, [None, None]),
    Library::python("fasteners", 200, [Some(35.0), Some(1000.0)]),
    Library::python("portalocker", 100, [None, None]),
    Library::python("locket.py", 500, [None, None]),
    Library {
        name: "proper-lockfile",
        node: true,
        batch: 20,
        targets: [Some(100.0), None],
    },
];

impl Library {
    pub(crate) const fn python(name: &'static str, batch: u32, targets: [Option<f64>; 2]) -> Self {
        Self {
            name,
            node: false,
            batch,
            targets,
        }
    }

    fn target(&self, index: usize) -> Option<Target> {
        self.targets[index].map(Target::RatioAtLeast)
    }

    /// An interpreter with this library, and what the library calls itself; none if it is not
    /// installed.
    pub(crate) fn start(&self, path: &Path) -> Option<(Process, String)> {
        let mut command = if self.node {
            let mut node = Command::new("node");
            if let Some(peers) = installed() {
                node.env("NODE_PATH", peers.join("node_modules"));
            }
            node.arg(script("peers.js"));
            node
        } else {
            let own = installed().map(|peers| peers.join("venv/bin/python"));
            let own = own.filter(|python| python.exists());
            let mut python = Command::new(own.unwrap_or_else(|| "python3".into()));
            python.arg(script("peers.py"));
            python
        };
        command.arg(self.name).arg(path).stderr(Stdio::null());
        let mut process = Process::spawn(&mut command).ok()?;
        let language = if self.node { "Node" } else { "Python" };
        let name = format!("{}, {language}", process.line()?);
        Some((process, name))
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/limits")
        .join(name)
}

/// Where `tests/peers` puts them: beneath cargo's target folder, and so is this program.
fn installed() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folders = program.ancestors().map(|folder| folder.join("peers"));
    folders.into_iter().find(|folder| folder.is_dir())
}

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    let mut found = Vec::new();
    for library in &LIBRARIES {
        let path = plan.file(library.name);
        match library.start(&path).zip(library.start(&path)) {
            Some(((holder, name), (waiter, _))) => found.push((library, name, holder, waiter)),
            None => report.skip(library.name, "not installed; tests/peers installs it"),
        }
    }
    if found.is_empty() {
        return;
    }

    let path = &plan.file("ours");
    let [mut by_path, mut on_a_handle] = {
        let ours = Method::Locket {
            api: Api::Timeout,
            protocol: Protocol::Native,
            pinned: false,
        };
        [ours.by_path(path), ours.on_a_handle(path)]
    };
    let mut contestants = vec![
        Contestant::batch("ours, on a handle", 2000, |count| {
            (0..count).for_each(|_| on_a_handle(&mut || {}));
        }),
        Contestant::batch("ours, by path", 2000, |count| {
            (0..count).for_each(|_| by_path(&mut || {}));
        }),
    ];
    for (library, name, holder, _) in &mut found {
        let batch = library.batch;
        let go = move |samples: &mut Vec<f64>| {
            let time: f64 = holder.ask(&format!("batch {batch}"));
            samples.push(time / f64::from(batch));
        };
        contestants.push(Contestant::new(name.as_str(), go).target(library.target(0)));
    }
    let title = "Other languages, uncontended";
    report.add(compare(title, plan.rounds(60), contestants));

    let [holder, waiter] =
        [Place::First, Place::Others].map(|place| contender(place, NATIVE, path));
    let mut contestants = vec![handed("ours", holder, waiter)];
    for (library, name, holder, waiter) in found {
        contestants.push(handed(&name, holder, waiter).target(library.target(1)));
    }
    report.add(compare(HAND_OFF, plan.rounds(48), contestants));
}

pub(crate) fn handed(name: &str, mut holder: Process, mut waiter: Process) -> Contestant<'static> {
    let mut part = 0.0_f64;
    Contestant::new(name, move |samples| {
        // Multiples of the golden ratio spread evenly, however many there are.
        part = (part + 0.618_034).fract();
        let pause = Duration::from_millis(250).mul_f64(part);
        samples.push(hand_off(&mut holder, &mut waiter, None, pause));
    })
}
