//! Real tools as peers: who excludes whom, found out by trying. Each peer holds a lock while
//! `locket exec` tries, gives up after a while, and waits; then the other way round. What comes
//! out is compared with what is known of the peers, and with the table in the README.
//!
//! The peers are in `tests/foreign`, one program for each language. A program is started with the
//! name of a library and prints its version. Then it answers line by line: `try PATH` with `got`
//! or `busy`, `wait SECONDS PATH` with `got` or `timed-out`, `release` with `released`, and
//! anything that goes wrong with `error` and what it is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use locket_tests::process::{Process, QUIESCENT, STUCK, tool};
use rustix::process::{Pid, Signal, kill_process_group};

/// A tool that is not ours.
struct Peer {
    /// A library and, after a space, a part of it.
    name: &'static str,
    /// What the README calls it, if it does.
    title: &'static str,
    language: Language,
    way: Way,
    waits: Waits,
}

#[derive(Clone, Copy, PartialEq)]
enum Language {
    Python,
    Node,
    Java,
    Rust,
    Shell,
}

/// How a peer keeps its lock, where P is the path that it is given.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// By `flock` on P.
    Flock,
    /// By a POSIX lock on P.
    Fcntl,
    /// By having made `P.lock`, of whatever kind.
    Beside,
    /// By having made P.
    Path,
    /// By a row in a database.
    Row,
}

#[derive(Clone, Copy, PartialEq)]
enum Waits {
    /// As long as it is told.
    Limited,
    /// Only for ever.
    Forever,
    /// Not at all.
    Never,
}

const fn peer(
    name: &'static str,
    title: &'static str,
    language: Language,
    way: Way,
    waits: Waits,
) -> Peer {
    Peer {
        name,
        title,
        language,
        way,
        waits,
    }
}

/// Only newer versions of `flock(1)` have it.
const OPTIONAL: &str = "flock --fcntl";

const PEERS: [Peer; 24] = {
    use Language::{Java, Node, Python, Rust, Shell};
    use Waits::{Forever, Limited, Never};
    use Way::{Beside, Fcntl, Flock, Path, Row};
    [
        peer("locket", "locket.py", Python, Flock, Limited),
        peer("filelock FileLock", "filelock", Python, Flock, Limited),
        peer("portalocker", "portalocker", Python, Flock, Limited),
        peer("zc.lockfile", "zc.lockfile", Python, Flock, Never),
        peer("flock", "`flock(1)`", Shell, Flock, Limited),
        peer("flock -s", "`flock(1)`", Shell, Flock, Limited),
        peer("std", "Rust's `File::lock`", Rust, Flock, Forever),
        peer("fs4", "fs4", Rust, Flock, Forever),
        peer("fd-lock", "fd-lock", Rust, Flock, Forever),
        peer(
            "fasteners InterProcessLock",
            "fasteners",
            Python,
            Fcntl,
            Limited,
        ),
        peer("fasteners write", "fasteners", Python, Fcntl, Limited),
        peer("fasteners read", "fasteners", Python, Fcntl, Limited),
        peer(
            "oslo.concurrency",
            "oslo.concurrency",
            Python,
            Fcntl,
            Forever,
        ),
        peer("java", "Java", Java, Fcntl, Forever),
        peer("flock --fcntl", "", Shell, Fcntl, Limited),
        // A database is locked by POSIX locks on some of its bytes, so P is a database here.
        peer("sqlite3", "SQLite", Shell, Fcntl, Limited),
        peer("lockfile Link", "lockfile", Python, Beside, Limited),
        peer("lockfile Symlink", "lockfile", Python, Beside, Limited),
        peer("lockfile Mkdir", "lockfile", Python, Beside, Limited),
        peer("proper-lockfile", "proper-lockfile", Node, Beside, Limited),
        // Its P is the index of a repository.
        peer("git", "git", Shell, Beside, Never),
        peer("lockfile PID", "lockfile (PID)", Python, Path, Limited),
        peer(
            "filelock SoftFileLock",
            "filelock (soft)",
            Python,
            Path,
            Limited,
        ),
        peer("lockfile SQLite", "lockfile (SQLite)", Python, Row, Limited),
    ]
};

/// What the README says of a protocol, but for who else speaks it: that is found out here.
struct Claim {
    protocol: &'static str,
    mechanism: &'static str,
    /// When a lock is free whose holder was killed with `SIGKILL`.
    killed: &'static str,
    shared: bool,
    hosts: &'static str,
    fair: &'static str,
}

const AT_ONCE: &str = "free at once";
/// By the next who wants it.
const TAKEN: &str = "taken over";

const fn claim(
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

const CLAIMS: [Claim; 9] = [
    claim(
        "native",
        "the next two on one descriptor",
        AT_ONCE,
        true,
        "untested",
        "yes",
    ),
    claim("flock", "`flock(2)`", AT_ONCE, true, "untested", "yes"),
    claim(
        "fcntl",
        "open-file-description lock",
        AT_ONCE,
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

/// How it goes for one who tries while the other holds the lock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Met {
    /// Is refused, gives up, waits, gets it when the other has released.
    Lock,
    /// Gets it.
    Nothing,
    /// Is refused for as long as the holder holds, and ever after: something is left.
    Remains,
    /// Is refused, and after a while takes it from the holder.
    Prey,
    /// Cannot try.
    Fails,
}

/// For a peer and a protocol: how our tool fares while the peer holds the lock, and the reverse.
#[derive(Clone, Copy, PartialEq)]
struct Pair {
    we: Met,
    they: Met,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.we, &self.they) {
            (Met::Lock, Met::Lock) => f.write_str("excludes"),
            (Met::Nothing, Met::Nothing) => f.write_str("."),
            (we, they) => write!(f, "{we}/{they}"),
        }
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "excluded",
            Self::Nothing => ".",
            Self::Remains => "remains",
            Self::Prey => "robs",
            Self::Fails => "fails",
        })
    }
}

/// What is known of the peers.
fn expected(peer: &Peer, protocol: &str) -> Pair {
    let pair = |we, they| Pair { we, they };
    let both = |met| pair(met, met);
    match (peer.way, protocol) {
        // It cannot read the name of a holder there, and takes what it cannot read for garbage.
        (Way::Path, "pid-file") if peer.name == "filelock SoftFileLock" => {
            pair(Met::Lock, Met::Prey)
        }
        (Way::Flock, "native" | "flock")
        | (Way::Fcntl, "native" | "fcntl")
        | (Way::Beside, "link" | "symlink" | "mkdir")
        | (Way::Path, "pid-file" | "soft")
        | (Way::Row, "sqlite") => both(Met::Lock),
        // What we make at the path is no index, not even if it is empty.
        (Way::Beside, "native" | "flock" | "fcntl" | "pid-file" | "soft") if peer.name == "git" => {
            pair(Met::Nothing, Met::Fails)
        }
        // Nor is it a database, unless it is empty.
        (Way::Fcntl, "pid-file" | "soft") if peer.name == "sqlite3" => {
            pair(Met::Remains, Met::Fails)
        }
        // A file that is locked need not be new, and stays.
        (Way::Flock | Way::Fcntl, "pid-file" | "soft") => pair(Met::Remains, Met::Nothing),
        (Way::Path, "native" | "flock" | "fcntl") => pair(Met::Nothing, Met::Remains),
        _ => both(Met::Nothing),
    }
}

/// Long enough to see that somebody gives up. A soft lock robs a holder of whom it cannot read
/// the name for 2 seconds; long enough to see that, too.
fn patience(peer: &Peer, protocol: &str) -> f64 {
    let soft = protocol == "soft" || peer.name == "filelock SoftFileLock";
    let made = ["pid-file", "soft"].contains(&protocol);
    if peer.way == Way::Path && soft && made {
        3.5
    } else {
        0.3
    }
}

fn fails(path: &Path, error: &str) -> Met {
    println!("{}: {}", path.display(), error.trim());
    Met::Fails
}

/// A peer at work.
struct Driver(Process);

impl Driver {
    /// None where it is not installed. In CI everything must be.
    fn start(peer: &Peer, temporary: &Path) -> Option<(Self, String)> {
        let mut process = Process::spawn(peer.command().env("TMPDIR", temporary));
        let version = process.answer_within(STUCK)?;
        Some((Self(process), version))
    }

    fn acquire(&mut self, command: fmt::Arguments<'_>, path: &Path) -> Result<bool, Met> {
        let answer = self.0.ask(&format!("{command} {}", path.display()));
        match answer.as_str() {
            "got" => Ok(true),
            "busy" | "timed-out" => Ok(false),
            _ => Err(fails(path, &answer)),
        }
    }

    fn release(&mut self) {
        // An error too is an answer: somebody else who did not see the lock may have broken it.
        self.0.ask("release");
    }
}

impl Peer {
    fn command(&self) -> Command {
        let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
        let installed = installed();
        let (program, file) = match self.language {
            Language::Python => (installed.join("venv/bin/python"), "peers.py"),
            Language::Node => ("node".into(), "peers.js"),
            Language::Java => ("java".into(), "Peers.java"),
            Language::Rust => (env!("CARGO_BIN_EXE_rust_peers").into(), ""),
            Language::Shell => ("sh".into(), "peers.sh"),
        };
        // One that is not there ends as soon as it is started, and says nothing.
        let mut command = Command::new("env");
        command.env("NODE_PATH", installed.join("node_modules"));
        command.arg(program);
        if self.language != Language::Rust {
            command.arg(foreign.join(file));
        }
        command.arg(self.name);
        command
    }
}

/// Where `tests/peers` puts the libraries.
fn installed() -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this test");
    let mut folders = tests.ancestors().map(|folder| folder.join("peers"));
    folders.find(|folder| folder.is_dir()).unwrap_or_default()
}

/// `locket exec` with a protocol.
struct Ours<'a> {
    tool: &'a Path,
    protocol: &'a str,
}

impl Ours<'_> {
    fn command<S: AsRef<OsStr>>(&self, args: &[S], path: &Path, line: &str) -> Command {
        let mut command = Command::new(self.tool);
        command.args(["exec", "--protocol", self.protocol]);
        if self.protocol == "sqlite" {
            let database = path.with_file_name("locks.db");
            command.arg("--database").arg(database);
        }
        command.args(args).arg(path).args(["--", "sh", "-c", line]);
        command
    }

    /// Whether the lock was to be had.
    fn acquire<S: AsRef<OsStr>>(&self, args: &[S], path: &Path) -> Result<bool, Met> {
        let output = self.command(args, path, "echo got").output().unwrap();
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(fails(path, &String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Says `got` when it holds the lock, and holds it until its input ends.
    fn hold<S: AsRef<OsStr>>(&self, args: &[S], path: &Path) -> Process {
        Process::spawn(self.command(args, path, "echo got; cat").process_group(0))
    }
}

const WAIT: [&str; 2] = ["-w", "10"];

fn we_meet(peer: &Peer, they: &mut Driver, ours: &Ours<'_>, path: &Path) -> Result<Met, Met> {
    let patience = patience(peer, ours.protocol).to_string();
    assert!(they.acquire(format_args!("try"), path)?, "nobody was there");
    let tried = ours.acquire(&["-n"], path);
    let waited = match tried {
        Ok(false) => ours.acquire(&["-w", &patience], path),
        _ => Ok(false),
    };
    they.release();
    if tried? {
        return Ok(Met::Nothing);
    }
    if waited? {
        return Ok(Met::Prey);
    }
    if !ours.acquire(&["-n"], path)? {
        return Ok(Met::Remains);
    }
    assert!(they.acquire(format_args!("try"), path)?, "ours is released");
    let mut waiter = ours.hold(&WAIT, path);
    let early = waiter.answer_within(QUIESCENT);
    assert_eq!(early, None, "did not wait for {}", peer.name);
    they.release();
    assert_eq!(waiter.answer(), "got", "waiting for {}", peer.name);
    assert!(waiter.finish());
    Ok(Met::Lock)
}

fn they_meet(peer: &Peer, they: &mut Driver, ours: &Ours<'_>, path: &Path) -> Result<Met, Met> {
    let patience = patience(peer, ours.protocol);
    let mut holder = ours.hold::<&str>(&[], path);
    assert_eq!(holder.answer(), "got", "nobody was there");
    if they.acquire(format_args!("try"), path)? {
        they.release();
        return Ok(Met::Nothing);
    }
    if peer.waits == Waits::Limited && they.acquire(format_args!("wait {patience}"), path)? {
        they.release();
        return Ok(Met::Prey);
    }
    assert!(holder.finish());
    if !they.acquire(format_args!("try"), path)? {
        return Ok(Met::Remains);
    }
    they.release();
    if peer.waits != Waits::Never {
        let mut holder = ours.hold::<&str>(&[], path);
        assert_eq!(holder.answer(), "got", "{} released", peer.name);
        they.0.send(&format!("wait 10 {}", path.display()));
        let early = they.0.answer_within(QUIESCENT);
        assert_eq!(early, None, "{} did not wait for us", peer.name);
        assert!(holder.finish());
        assert_eq!(they.0.answer(), "got", "{} waiting for us", peer.name);
        they.release();
    }
    Ok(Met::Lock)
}

/// What comes out with each of our protocols.
type Row = Vec<(&'static str, Pair)>;

/// All that happens between a peer and our tool; none if there is no such peer.
fn meet(peer: &Peer, tool: &Path, dir: &Path) -> Option<Row> {
    let start = Instant::now();
    let dir = dir.join(peer.name.replace(' ', "-"));
    let fresh = |protocol: &str, who: &str| {
        // Any path would do, except for git.
        let path = dir.join(protocol).join(who).join(".git/index");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    std::fs::create_dir_all(&dir).unwrap();
    let (mut they, version) = Driver::start(peer, &dir)?;
    let pairs = protocols().map(|protocol| {
        let ours = Ours { tool, protocol };
        let we = we_meet(peer, &mut they, &ours, &fresh(protocol, "we"));
        let they = they_meet(peer, &mut they, &ours, &fresh(protocol, "they"));
        let [we, they] = [we, they].map(|met| met.unwrap_or_else(|failure| failure));
        (protocol, Pair { we, they })
    });
    let pairs = pairs.collect();
    println!("{} {version}: {:.1?}", peer.name, start.elapsed());
    Some(pairs)
}

/// Whether several can share a lock.
fn shares(ours: &Ours<'_>, path: &Path) -> bool {
    let mut first = ours.hold(&["-s"], path);
    // It ends at once where there is no sharing.
    if first.answer_within(STUCK).is_none() {
        return false;
    }
    assert_eq!(ours.acquire(&["-n"], path), Ok(false), "a reader is there");
    assert_eq!(ours.acquire(&["-s", "-n"], path), Ok(true), "with another");
    assert!(first.finish());
    true
}

/// Kills `locket exec` and its command.
fn kill(holder: &mut Process) {
    let group = Pid::from_raw(holder.id().cast_signed()).unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    holder.kill();
    // The end of what is printed is that of the command.
    assert_eq!(holder.answer_within(STUCK), None);
}

/// When a lock is free whose holder was killed, and its command with it.
fn freed(ours: &Ours<'_>, path: &Path) -> &'static str {
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
        (true, false) => AT_ONCE,
        (true, true) => TAKEN,
        (false, _) => "no",
    }
}

/// Does something with each of `items`, three at a time.
fn in_parallel<T: Sync, R: Send>(items: &[T], what: impl Fn(&T) -> R + Sync) -> Vec<R> {
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
fn speakers(rows: &[Option<Row>], protocol: &str) -> Vec<&'static str> {
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

fn readme(rows: &[Option<Row>]) -> String {
    let mut table = "\
| protocol | mechanism | survives `kill -9` | shared | across hosts | fair | who else speaks it |
|---|---|---|---|---|---|---|
"
    .to_owned();
    let all = [speakers(rows, "flock"), speakers(rows, "fcntl")].concat();
    for claim in claims() {
        let mut titles = speakers(rows, claim.protocol);
        // Not all of them once more.
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

fn protocols() -> impl Iterator<Item = &'static str> {
    locket::Protocol::ALL.iter().map(|protocol| protocol.name())
}

fn claims() -> impl Iterator<Item = &'static Claim> {
    let claim = |name| CLAIMS.iter().find(move |claim| claim.protocol == name);
    protocols().map(move |name| claim(name).expect("a claim for every protocol"))
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

/// A reader of theirs beside readers of ours, whichever came first.
#[test]
fn readers_of_two_tools_share_a_lock() {
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    let readers = [("flock -s", "flock"), ("fasteners read", "fcntl")];
    for (name, family) in readers {
        let peer = PEERS.iter().find(|peer| peer.name == name).unwrap();
        let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
            println!("NOT RUN: {name} is not installed");
            continue;
        };
        for protocol in protocols().filter(|name| ["native", family].contains(name)) {
            let ours = Ours { tool, protocol };
            let path = dir.path().join(format!("{family}-{protocol}"));
            assert_eq!(they.acquire(format_args!("try"), &path), Ok(true));
            assert_eq!(ours.acquire(&["-s", "-n"], &path), Ok(true), "{name}");
            they.release();
            let mut holder = ours.hold(&["-s"], &path);
            assert_eq!(holder.answer(), "got");
            assert_eq!(they.acquire(format_args!("try"), &path), Ok(true));
            they.release();
            assert!(holder.finish());
        }
    }
}

/// What is left of a lock whose holder was killed: the kernel's are free, of the others those
/// that say enough of their holder for the other side.
#[test]
fn who_is_killed_is_missed_by_those_who_can_tell() {
    // Whether we get theirs, and they ours.
    let cases = [
        ("filelock FileLock", "flock", true, true),
        ("fasteners InterProcessLock", "fcntl", true, true),
        ("filelock SoftFileLock", "soft", true, true),
        ("lockfile PID", "pid-file", true, false),
        ("lockfile Mkdir", "mkdir", false, false),
        ("proper-lockfile", "mkdir", false, false),
    ];
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    for (name, protocol, ours_after, theirs_after) in cases {
        let peer = PEERS.iter().find(|peer| peer.name == name).unwrap();
        let ours = Ours { tool, protocol };
        let path = |who| dir.path().join(format!("{}-{who}", name.replace(' ', "-")));
        let seconds = |freed| if freed { "10" } else { "0.3" };

        let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
            println!("NOT RUN: {name} is not installed");
            continue;
        };
        assert_eq!(they.acquire(format_args!("try"), &path("they")), Ok(true));
        they.0.kill();
        let freed = ours.acquire(&["-w", seconds(ours_after)], &path("they"));
        assert_eq!(freed, Ok(ours_after), "{protocol} after {name}");

        let mut holder = ours.hold::<&str>(&[], &path("we"));
        assert_eq!(holder.answer(), "got");
        kill(&mut holder);
        let (mut they, _) = Driver::start(peer, dir.path()).unwrap();
        let wait = format_args!("wait {}", seconds(theirs_after));
        let freed = they.acquire(wait, &path("we"));
        assert_eq!(freed, Ok(theirs_after), "{name} after {protocol}");
    }
}

/// Whether a process that is not of the group has the file open.
fn is_open_beyond(group: u32, path: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let others = processes.filter(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // After the name, which is in brackets: the state, the parent, the group.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        let of = after.split(' ').nth(2).and_then(|of| of.parse().ok());
        of.is_some_and(|of: u32| of != group)
    });
    let files = others.flat_map(|process| std::fs::read_dir(process.path().join("fd")));
    let mut links = files.flat_map(|fds| fds.flatten());
    links.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|open| open == path))
}

/// Who waits while the file is removed, and is then content with a lock that nobody else sees. These
/// must not be mixed with removal on release; its documentation lists them.
#[test]
fn those_who_do_not_check_that_the_file_is_still_there_are_known() {
    const DO_NOT: [&str; 10] = [
        "locket",
        "portalocker",
        "flock",
        "std",
        "fs4",
        "fd-lock",
        "fasteners InterProcessLock",
        "fasteners write",
        "oslo.concurrency",
        "java",
    ];
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    let candidates = PEERS.iter().filter(|peer| {
        let shared = ["flock -s", "fasteners read", OPTIONAL].contains(&peer.name);
        let family = matches!(peer.way, Way::Flock | Way::Fcntl) && peer.name != "sqlite3";
        family && peer.waits != Waits::Never && !shared
    });
    for peer in candidates {
        let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
            println!("NOT RUN: {} is not installed", peer.name);
            continue;
        };
        let protocol = "native";
        let ours = Ours { tool, protocol };
        let path = dir.path().join(peer.name.replace(' ', "-"));
        let mut holder = ours.hold(&["--remove"], &path);
        assert_eq!(holder.answer(), "got");
        they.0.send(&format!("wait 10 {}", path.display()));
        let start = Instant::now();
        let content = DO_NOT.contains(&peer.name);
        // Whoever checks need not keep it open.
        while content && !is_open_beyond(holder.id(), &path) {
            assert!(start.elapsed() < STUCK, "{} opens the file", peer.name);
        }
        assert_eq!(they.0.answer_within(QUIESCENT), None, "{} waits", peer.name);
        assert!(holder.finish());
        assert_eq!(they.0.answer(), "got", "{}", peer.name);
        let another = ours.acquire(&["-n"], &path).unwrap();
        assert_eq!(another, content, "{}", peer.name);
        they.release();
    }
}

/// A database in which somebody else has a transaction is no error, but something to wait for.
#[test]
fn a_busy_database_is_waited_for() {
    let peer = PEERS.iter().find(|peer| peer.name == "sqlite3").unwrap();
    let tool = &tool();
    let protocol = "sqlite";
    let ours = Ours { tool, protocol };
    let dir = tempfile::tempdir().unwrap();
    let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
        println!("NOT RUN: sqlite3 is not installed");
        return;
    };
    for (name, used_before) in [("new", false), ("old", true)] {
        let path = dir.path().join(name).join("lock");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        if used_before {
            assert_eq!(ours.acquire(&["-n"], &path), Ok(true));
        }
        let database = path.with_file_name("locks.db");
        assert_eq!(they.acquire(format_args!("try"), &database), Ok(true));
        assert_eq!(ours.acquire(&["-n"], &path), Ok(false), "{name}");
        assert_eq!(ours.acquire(&["-w", "0.3"], &path), Ok(false), "{name}");
        let mut waiter = ours.hold(&WAIT, &path);
        assert_eq!(waiter.answer_within(QUIESCENT), None, "{name}");
        they.release();
        assert_eq!(waiter.answer(), "got", "{name}");
        assert!(waiter.finish());
    }
}
