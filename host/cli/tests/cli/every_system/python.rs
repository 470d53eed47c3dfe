//! Libraries of Windows' Python. `LOCKET_PYTHON` names a Python that has them, if `python` does not.

use std::thread;

use locket_test_support::not_tested;
use locket_test_support::process::Process;
use locket_test_support::waits::STUCK;

use super::*;

/// A library of `tests/foreign/peers.py`, the protocol that shares its lock, and whether it can wait.
/// Others, such as portalocker and fasteners, rely on why `_locking` failed, which Wine does not say.
const PEERS: &[(&str, &str, bool)] = &[
    ("locket", "native", true),
    ("locket", "flock", true),
    ("filelock FileLock", "native", true),
    ("filelock FileLock", "fcntl", true),
    ("zc.lockfile", "native", false),
    ("filelock SoftFileLock", "soft", true),
    ("lockfile Link", "link", true),
    ("lockfile Mkdir", "mkdir", true),
    ("lockfile PID", "pid-file", true),
    #[cfg(feature = "sqlite")]
    ("lockfile SQLite", "sqlite", true),
];

/// How often each side has its turn.
const TURNS: usize = 10;

/// Starts a library; `None` if it is not installed. In CI, and in a Python that was named, it must be.
fn start(name: &str) -> Option<Process> {
    let named = std::env::var_os("LOCKET_PYTHON");
    let required = named.is_some() || std::env::var_os("CI").is_some();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign/peers.py");
    let mut python = Command::new(named.unwrap_or_else(|| "python".into()));
    // Its errors are answers. Under Wine it cannot start with a file of Unix as one of its streams.
    python.arg(script).arg(name).stderr(Stdio::null());
    let mut peer = Process::spawn(&mut python);
    let version = peer.answer_within(STUCK);
    assert!(!required || version.is_some(), "{name} is not installed");
    if version.is_none() {
        not_tested(format_args!("{name} is not installed"));
    }
    version.map(|_| peer)
}

/// The options of `exec` for a protocol.
fn options<'a>(protocol: &'a str, database: &'a str) -> Vec<&'a str> {
    let mut options = vec!["--protocol", protocol];
    if protocol == "sqlite" {
        options.extend(["--database", database]);
    }
    options
}

fn each(test: impl Fn(&str, &mut Process, bool, &[&str], &Path)) {
    for &(name, protocol, waits) in PEERS {
        let Some(mut peer) = start(name) else {
            continue;
        };
        let (dir, path) = lock();
        let database = dir.path().join("locks.db");
        let database = database.to_str().expect("the path is Unicode");
        test(name, &mut peer, waits, &options(protocol, database), &path);
    }
}

#[test]
fn a_lock_of_python_excludes_the_tool_and_the_reverse() {
    each(|name, peer, waits, options, path| {
        let try_it = format!("try {}", path.display());
        let no_wait = [options, &["-n"]].concat();
        assert_eq!(peer.ask(&try_it), "got", "{name}");
        assert_eq!(code(exec(&no_wait, path, &[LOCKET])), Some(1), "{name}");
        let held = thread::scope(|scope| {
            let waiter = scope.spawn(|| Held::start(options, path));
            assert_eq!(peer.ask("release"), "released", "{name}");
            waiter.join().expect("the tool gets the lock")
        });
        assert_eq!(peer.ask(&try_it), "busy", "{name}");
        if waits {
            let wait = format!("wait {} {}", STUCK.as_secs(), path.display());
            peer.send(&wait);
            held.end();
            assert_eq!(peer.answer(), "got", "{name}");
        } else {
            held.end();
            assert_eq!(peer.ask(&try_it), "got", "{name}");
        }
        assert_eq!(peer.ask("release"), "released", "{name}");
        Held::start(&no_wait, path).end();
    });
}

/// Adds one to the number in a file, in two steps.
fn increment(counter: &Path) {
    let number = std::fs::read_to_string(counter).expect("it can be read");
    let number: usize = number.parse().expect("it is a number");
    std::fs::write(counter, (number + 1).to_string()).expect("it can be written");
}

#[test]
fn python_and_the_tool_count_in_turns() {
    each(|name, peer, waits, options, path| {
        let counter = path.with_file_name("counter");
        std::fs::write(&counter, "0").expect("it can be written");
        let ask = match waits {
            true => format!("wait {} {}", STUCK.as_secs(), path.display()),
            false => format!("try {}", path.display()),
        };
        thread::scope(|scope| {
            let tool = scope.spawn(|| {
                for _ in 0..TURNS {
                    let held = Held::start(options, path);
                    increment(&counter);
                    held.end();
                }
            });
            for _ in 0..TURNS {
                loop {
                    match peer.ask(&ask).as_str() {
                        "got" => break,
                        "busy" if !waits => thread::yield_now(),
                        answer => panic!("{name}: {answer}"),
                    }
                }
                increment(&counter);
                assert_eq!(peer.ask("release"), "released", "{name}");
            }
            tool.join().expect("the tool has its turns");
        });
        let number = std::fs::read_to_string(&counter).expect("it can be read");
        assert_eq!(number, (2 * TURNS).to_string(), "{name}");
    });
}
