//! Native processes that lock: our own, and programs that know nothing of us.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough that something which has not happened is stuck.
pub const STUCK: Duration = Duration::from_secs(20);

/// Long enough to see that a waiter really waits.
pub const QUIESCENT: Duration = Duration::from_millis(50);

/// A child process that answers each line with a line. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Process {
    /// Starts `command` with its standard input and output connected to this.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a process");
        let (sender, output) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            input: child.stdin.take(),
            child,
            output,
        }
    }

    /// A Python program that runs `body`, with `path` in its arguments.
    pub fn python(body: &str, path: &Path) -> Self {
        Self::spawn(Command::new("python3").arg("-c").arg(body).arg(path))
    }

    /// Python's `fcntl.flock` or `fcntl.lockf`: locks, says `ok`, and unlocks at the next line.
    pub fn python_lock(function: &str, path: &Path) -> Self {
        let body = format!(
            "import fcntl, sys\nf = open(sys.argv[1], 'r+')\n\
             fcntl.{function}(f, fcntl.LOCK_EX)\nprint('ok', flush=True)\nsys.stdin.readline()\n\
             fcntl.{function}(f, fcntl.LOCK_UN)\nprint('ok', flush=True)\nsys.stdin.read()"
        );
        Self::python(&body, path)
    }

    /// Sends a line, all of it at once: it is read in one system call, and some count those.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input");
        let line = format!("{line}\n");
        input.write_all(line.as_bytes()).expect("send a line");
    }

    /// The next line of output, if it comes within `limit`.
    pub fn answer_within(&mut self, limit: Duration) -> Option<String> {
        self.output.recv_timeout(limit).ok()
    }

    /// The next line of output.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        self.answer_within(STUCK).expect("an answer")
    }

    /// Sends a line and returns the answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer()
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with `SIGKILL` and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes its input and waits for its end; whether it succeeded.
    pub fn finish(mut self) -> bool {
        self.input = None;
        self.child.wait().expect("its end").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A directory of its own, with an empty lock file in it. Removed when dropped.
#[derive(Debug)]
pub struct Dir(tempfile::TempDir);

impl Default for Dir {
    fn default() -> Self {
        Self::new()
    }
}

impl Dir {
    /// Makes one.
    pub fn new() -> Self {
        let dir = Self(tempfile::tempdir().expect("a directory"));
        std::fs::write(dir.lock(), "").expect("a lock file");
        dir
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.path().join("lock")
    }

    /// A process of ours that locks the file.
    pub fn peer(&self) -> Process {
        self.peer_with(&[])
    }

    /// The same, with arguments.
    pub fn peer_with(&self, args: &[&str]) -> Process {
        Process::spawn(Command::new(peer()).arg(self.lock()).args(args))
    }
}

/// How many wait in the kernel for a lock of the file.
pub fn kernel_waiters(path: &Path) -> usize {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(
        ":{} ",
        std::fs::metadata(path).expect("the lock file").ino()
    );
    let count = || {
        let locks = std::fs::read_to_string("/proc/locks").expect("the kernel's locks");
        let mine = |line: &&str| line.contains("->") && line.contains(&inode);
        locks.lines().filter(mine).count()
    };
    // The list comes in pieces; if it changes in between, something can be in it twice.
    let mut before = count();
    loop {
        let now = count();
        if now == std::mem::replace(&mut before, now) {
            return now;
        }
    }
}

/// Whether `strace` is there. In CI it must be.
pub fn can_trace() -> bool {
    match Command::new("strace").arg("--version").output() {
        Ok(_) => true,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "CI must have strace: {e}");
            println!("NOT RUN, for want of strace: {e}");
            false
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < STUCK, "not in {STUCK:?}: {what}");
        thread::yield_now();
    }
}

/// The `locket` tool, built beside the tests. `cargo test --workspace` and nextest build it;
/// where it is missing or older than its sources, says so instead of testing something else.
pub fn tool() -> PathBuf {
    let path = beside_the_tests("locket");
    let built = path.metadata().and_then(|m| m.modified());
    let built = built.unwrap_or_else(|e| panic!("{}: {e}; {BUILD}", path.display()));
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host");
    let sources = ["src", "wasmtime/src", "cli/src"].map(|sources| newest(&host.join(sources)));
    assert!(
        sources.iter().all(|changed| *changed <= built),
        "the tool is older than its sources; {BUILD}"
    );
    path
}

/// The program `peer` of this package, which Cargo builds before it runs a test: it locks a file
/// as it is told to, line by line.
pub fn peer() -> PathBuf {
    beside_the_tests("peer")
}

fn beside_the_tests(program: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this test");
    let folder = tests.ancestors().nth(2).expect("a target folder");
    folder.join(program)
}

const BUILD: &str = "run `cargo build --bin locket` first, or the tests of the whole workspace";

fn newest(folder: &Path) -> std::time::SystemTime {
    let entries = folder
        .read_dir()
        .expect("the sources")
        .map(|entry| entry.expect("a source"));
    let sources = entries.filter_map(|entry| {
        let path = entry.path();
        let source = path.extension() == Some(OsStr::new("rs"));
        match path.is_dir() {
            true => Some(newest(&path)),
            false if source => entry.metadata().and_then(|m| m.modified()).ok(),
            false => None,
        }
    });
    sources.max().unwrap_or(std::time::SystemTime::UNIX_EPOCH)
}
