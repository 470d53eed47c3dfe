//! The engine's owners against the processes of POSIX: the same operations, on one file by owners and
//! on another by processes with the kernel's classic locks, have the same answers, and lead to the
//! same ranges.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use locket_test_support::process::Process;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

/// A process that locks as it is told, by the C library's names.
const PROCESS: &str = r#"
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
FORM = 'hhqqi'
KINDS = {'exclusive': fcntl.F_WRLCK, 'shared': fcntl.F_RDLCK, 'none': fcntl.F_UNLCK}
NAMES = {kind: name for name, kind in KINDS.items()}
print('ready', flush=True)
for line in sys.stdin:
    command, kind, start, length = line.split()
    lock = struct.pack(FORM, KINDS[kind], 0, int(start), int(length), 0)
    if command == 'set':
        try:
            fcntl.fcntl(fd, fcntl.F_SETLK, lock)
            answer = 'true'
        except BlockingIOError:
            answer = 'false'
    else:
        kind, _, start, length, _ = struct.unpack(FORM, fcntl.fcntl(fd, fcntl.F_GETLK, lock))
        answer = 'none' if kind == fcntl.F_UNLCK else f'{NAMES[kind]} {start} {length}'
    print(answer, flush=True)
"#;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// No mode unlocks.
    Set(Option<Mode>),
    Query(Mode),
}

/// An operation of one of the owners.
type Step = (usize, Operation, Range);

fn step(owners: usize) -> impl Strategy<Value = Step> {
    let mode = || prop_oneof![Just(EX), Just(SH)];
    let operation = prop_oneof![
        4 => mode().prop_map(|mode| Operation::Set(Some(mode))),
        3 => Just(Operation::Set(None)),
        2 => mode().prop_map(Operation::Query),
    ];
    // Close together, so that they meet, and at the end of what a file can have.
    let end = i64::MAX.cast_unsigned();
    let start = prop_oneof![8 => 0..24_u64, 1 => end - 3..=end];
    let range = (start, 0..9_u64).prop_map(move |(start, length)| Range {
        start,
        length: length.min(end - start + 1),
    });
    (0..owners, operation, range)
}

/// How the engine and the processes answer.
fn answer(file: &RangeFile, operation: Operation, range: Range) -> String {
    match operation {
        Operation::Set(Some(mode)) => file.try_lock(mode, range).unwrap().to_string(),
        Operation::Set(None) => file.unlock(range).map(|()| "true".to_owned()).unwrap(),
        Operation::Query(mode) => match file.query(mode, range).unwrap() {
            None => "none".to_owned(),
            Some(HeldRange { mode, range }) => format!("{mode} {} {}", range.start, range.length),
        },
    }
}

fn command(operation: Operation, range: Range) -> String {
    let Range { start, length } = range;
    match operation {
        Operation::Set(None) => format!("set none {start} {length}"),
        Operation::Set(Some(mode)) => format!("set {mode} {start} {length}"),
        Operation::Query(mode) => format!("get {mode} {start} {length}"),
    }
}

/// A lock with the number of its process, or -1.
type Listed = (i32, HeldRange);

fn sort(locks: &mut [Listed]) {
    locks.sort_by_key(|(pid, HeldRange { mode, range })| {
        (*pid, range.start, range.length, *mode == EX)
    });
}

/// The record locks on a file, as the kernel lists them.
fn listed(path: &Path) -> Vec<Listed> {
    let inode = format!(":{}", fs::metadata(path).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let mut found = Vec::new();
    for line in locks.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, kind, pid, file, first, last] = words[..] else {
            continue;
        };
        if !file.ends_with(&inode) {
            continue;
        }
        let start: u64 = first.parse().unwrap();
        let length = last.parse().map_or(0, |last: u64| last - start + 1);
        let mode = if kind == "WRITE" { EX } else { SH };
        found.push((pid.parse().unwrap(), held(mode, Range { start, length })));
    }
    sort(&mut found);
    found
}

/// Whether each owner holds what the kernel lists of its process, and all of them what it lists of them.
fn same(owners: &[RangeFile], pids: &[u32], ours: &[Listed], theirs: &[Listed]) -> bool {
    let mut all = Vec::new();
    for (owner, pid) in owners.iter().zip(pids) {
        let its = theirs
            .iter()
            .filter(|(of, _)| u32::try_from(*of) == Ok(*pid));
        let its: Vec<_> = its.map(|(_, held)| *held).collect();
        if owner.held() != its {
            return false;
        }
        all.extend(its.into_iter().map(|held| (-1, held)));
    }
    sort(&mut all);
    all == ours
}

fn as_the_kernel_has_it(operations: usize) {
    const OWNERS: usize = 3;
    let dir = Dir::new();
    let (ours, theirs) = (dir.path("ours"), dir.path("theirs"));
    fs::write(&theirs, "").unwrap();
    let engine = Engine::new();
    let owners: Vec<_> = (0..OWNERS)
        .map(|_| engine.open_ranges(&ours).unwrap())
        .collect();
    let mut processes: Vec<_> = (0..OWNERS)
        .map(|_| Process::python(PROCESS, &theirs))
        .collect();
    for process in &mut processes {
        assert_eq!(process.answer(), "ready");
    }
    let mut random = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let strategy = step(OWNERS);
    let mut granted = 0_usize;
    for number in 0..operations {
        let (owner, operation, range) = strategy.new_tree(&mut random).unwrap().current();
        let ours_says = answer(&owners[owner], operation, range);
        let theirs_says = processes[owner].ask(&command(operation, range));
        assert_eq!(
            ours_says, theirs_says,
            "step {number}: owner {owner}, {operation:?}, {range:?}"
        );
        granted += usize::from(ours_says == "true");
        if number % 200 != 0 {
            continue;
        }
        let pids: Vec<_> = processes.iter().map(Process::id).collect();
        // The kernel's list is read in pieces. If it changes in between, an entry can be missing, or
        // in it twice.
        eventually("the kernel has the same", || {
            same(&owners, &pids, &listed(&ours), &listed(&theirs))
        });
    }
    println!("{operations} operations, {granted} of them locked or unlocked");
}

/// `RANGE_OPERATIONS` says how many; the default takes a second.
#[test]
fn owners_are_what_processes_are_to_posix() {
    let operations = env::var("RANGE_OPERATIONS").ok();
    as_the_kernel_has_it(operations.map_or(20_000, |number| number.parse().unwrap()));
}
