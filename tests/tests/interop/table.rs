//! The README's table of protocols: what it says of each is found out here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use locket_tests::process::{STUCK, tool};

use super::experiment::{Met, Ours, Pair, Row, expected, kill, meet};
use super::peers::{OPTIONAL, PEERS};

/// What the README says of a protocol, except which tools speak it: that is found out here.
pub(crate) struct Claim {
    pub(crate) protocol: &'static str,
    pub(crate) mechanism: &'static str,
    /// When a lock becomes free after its holder was killed with `SIGKILL`.
    pub(crate) killed: &'static str,
    pub(crate) shared: bool,
    pub(crate) hosts: &'static str,
    pub(crate) fair: &'static str,
}

pub(crate) const FREE_AT_ONCE: &str = "free at once";

/// The next one that wants it takes it over.
pub(crate) const TAKEN: &str = "taken over";

pub(crate) const fn claim(
    protocol: &'static str,
    mechanism: &'static str,
    killed: &'static str,
    shared: bool,
    hosts: &'static str,
    fair: &'static str,
) -> Claim {
    Claim {
        protocol,
        mechanism,
        killed,
        shared,
        hosts,
        fair,
    }
}

pub(crate) const CLAIMS: [Claim; 9] = [
    claim(
        "native",
        "the next two on one descriptor",
        FREE_AT_ONCE,
        true,
        "untested",
        "yes",
    ),
    claim("flock", "`flock(2)`", FREE_AT_ONCE, true, "untested", "yes"),
    claim(
        "fcntl",
        "open-file-description lock",
        FREE_AT_ONCE,
        true,
        "untested",
        "yes",
    ),
    claim(
        "link",
        "hard link `PATH.lock`",
        TAKEN,
        false,
        "untested",
        "no",
    ),
    claim(
        "symlink",
        "symbolic link `PATH.lock`",
        TAKEN,
        false,
        "untested",
        "no",
    ),
    claim(
        "mkdir",
        "directory `PATH.lock`",
        TAKEN,
        false,
        "untested",
        "no",
    ),
    claim(
        "pid-file",
        "new file `PATH`",
        TAKEN,
        false,
        "untested",
        "no",
    ),
    claim("soft", "new file `PATH`", TAKEN, false, "untested", "no"),
    claim("sqlite", "row of a database", TAKEN, false, "no", "no"),
];

pub(crate) fn protocols() -> impl Iterator<Item = &'static str> {
    locket::Protocol::ALL.iter().map(|protocol| protocol.name())
}

pub(crate) fn claims() -> impl Iterator<Item = &'static Claim> {
    let claim = |name| CLAIMS.iter().find(move |claim| claim.protocol == name);
    protocols().map(move |name| claim(name).expect("every protocol has a claim"))
}

/// Whether several can share a lock.
pub(crate) fn shares(ours: &Ours<'_>, path: &Path) -> bool {
    let mut first = ours.hold(&["-s"], path);
    // It ends at once if the protocol has no shared locks.
    if first.answer_within(STUCK).is_none() {
        return false;
    }
    assert_eq!(ours.acquire(&["-n"], path), Ok(false), "a reader is there");
    assert_eq!(ours.acquire(&["-s", "-n"], path), Ok(true), "with another");
    assert!(first.finish());
    true
}

/// When a lock becomes free after its holder was killed, together with its command.
pub(crate) fn freed(ours: &Ours<'_>, path: &Path) -> &'static str {
    let mut holder = ours.hold::<&str>(&[], path);
    assert_eq!(holder.answer(), "got");
    kill(&mut holder);
    let start = Instant::now();
    let freed = ours.acquire(&["-w", "5"], path).unwrap();
    println!(
        "{}: killed, free: {freed}, {:.1?}",
        ours.protocol,
        start.elapsed()
    );
    let protocol: locket::Protocol = ours.protocol.parse().unwrap();
    match (freed, protocol.is_existence_lock()) {
        (true, false) => FREE_AT_ONCE,
        (true, true) => TAKEN,
        (false, _) => "no",
    }
}

/// Does something with each of `items`, three at a time.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], what: impl Fn(&T) -> R + Sync) -> Vec<R> {
    // The last ones take longest.
    let queue = Mutex::new(items.iter().enumerate().rev());
    let done = Mutex::new(BTreeMap::new());
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((number, item)) = next() {
                    let result = what(item);
                    done.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

/// The titles of the peers that `protocol` excludes, each once.
pub(crate) fn speakers(rows: &[Option<Row>], protocol: &str) -> Vec<&'static str> {
    let lock = Pair {
        we: Met::Lock,
        they: Met::Lock,
    };
    let mut titles = Vec::new();
    for (peer, row) in PEERS.iter().zip(rows) {
        let new = !peer.title.is_empty() && !titles.contains(&peer.title);
        if new && row.iter().flatten().any(|met| *met == (protocol, lock)) {
            titles.push(peer.title);
        }
    }
    titles
}

pub(crate) fn readme(rows: &[Option<Row>]) -> String {
    let mut table = "\
| protocol | mechanism | survives `kill -9` | shared | across hosts | fair | who else speaks it |
|---|---|---|---|---|---|---|
"
    .to_owned();
    let all = [speakers(rows, "flock"), speakers(rows, "fcntl")].concat();
    for claim in claims() {
        let mut titles = speakers(rows, claim.protocol);
        // Do not list all of them once more.
        if claim.protocol == "native" && titles == all && protocols().any(|name| name == "fcntl") {
            titles = vec!["all of the next two"];
        }
        table += &format!(
            "| `{}` | {} | {} | {} | {} | {} | {} |\n",
            claim.protocol,
            claim.mechanism,
            claim.killed,
            if claim.shared { "yes" } else { "no" },
            claim.hosts,
            claim.fair,
            titles.join(", "),
        );
    }
    table
}

#[test]
fn every_tool_meets_every_protocol_as_the_readme_says() {
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for claim in claims() {
        let protocol = claim.protocol;
        let ours = Ours { tool, protocol };
        let path = |name| dir.path().join(format!("{protocol}-{name}"));
        let (shares, freed) = (
            shares(&ours, &path("shared")),
            freed(&ours, &path("killed")),
        );
        if (shares, freed) != (claim.shared, claim.killed) {
            wrong.push(format!("{protocol}: shared {shares}, {freed} when killed"));
        }
    }
    let rows = in_parallel(&PEERS, |peer| meet(peer, tool, dir.path()));
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:18}")).collect();
        println!("{name:28}{cells}");
    };
    line("", protocols().map(str::to_owned).collect());
    for (peer, row) in PEERS.iter().zip(&rows) {
        let Some(row) = row else {
            line(peer.name, vec!["NOT RUN: not installed".to_owned()]);
            continue;
        };
        line(
            peer.name,
            row.iter().map(|(_, met)| met.to_string()).collect(),
        );
        for (protocol, met) in row {
            let expected = expected(peer, protocol);
            if *met != expected {
                wrong.push(format!(
                    "{} and {protocol}: {met}, not {expected}",
                    peer.name
                ));
            }
        }
    }
    println!("\n{}", readme(&rows));
    assert_eq!(wrong, [""; 0]);

    let mut missing = PEERS.iter().zip(&rows).filter(|(_, row)| row.is_none());
    if missing.all(|(peer, _)| peer.name == OPTIONAL) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&readme(&rows)), "README.md says otherwise");
    } else {
        let ci = std::env::var_os("CI").is_some();
        assert!(!ci, "CI must have every tool: run tests/peers");
    }
}
