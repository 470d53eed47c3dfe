//! Native processes that lock: our own, and programs that do not know Locket.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::files::Dir;
use crate::not_tested;
use crate::waits::STUCK;

/// A child process that answers each line with a line. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Process {
    /// Starts `command` with its standard input and output connected to this.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let (sender, output) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
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
            "import fcntl, sys\nf = open(sys.argv[1], 'a+')\n\
             fcntl.{function}(f, fcntl.LOCK_EX)\nprint('ok', flush=True)\nsys.stdin.readline()\n\
             fcntl.{function}(f, fcntl.LOCK_UN)\nprint('ok', flush=True)\nsys.stdin.read()"
        );
        Self::python(&body, path)
    }

    /// Sends a line, all of it at once: the process reads it in one system call, and some tests
    /// count those.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        let line = format!("{line}\n");
        input.write_all(line.as_bytes()).expect("the process reads");
    }

    /// The next line of output, if it comes within `limit`.
    pub fn answer_within(&mut self, limit: Duration) -> Option<String> {
        self.output.recv_timeout(limit).ok()
    }

    /// The next line of output.
    ///
    /// # Panics
    ///
    /// If there is none within [`STUCK`].
    #[track_caller]
    pub fn answer(&mut self) -> String {
        self.answer_within(STUCK).expect("the process answers")
    }

    /// Sends a line and returns the answer.
    ///
    /// # Panics
    ///
    /// If there is none within [`STUCK`].
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
    ///
    /// # Panics
    ///
    /// If the system loses track of it.
    pub fn finish(mut self) -> bool {
        self.input = None;
        let status = self.child.wait();
        status.expect("the child can be waited for").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Another program that holds a lock, in Python. Killed when dropped.
#[derive(Debug)]
pub struct Foreign(Process);

impl Foreign {
    /// Returns once the program holds the lock of `path` by `fcntl.flock` or `fcntl.lockf`.
    ///
    /// # Panics
    ///
    /// If it does not get it.
    pub fn hold(path: &Path, function: &str) -> Self {
        let mut process = Process::python_lock(function, path);
        assert_eq!(process.answer(), "ok", "Python locks {}", path.display());
        Self(process)
    }

    /// Has it release the lock and end.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn release(mut self) {
        assert_eq!(self.0.ask("unlock"), "ok", "Python unlocks");
        assert!(self.0.finish(), "Python ends");
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.0.kill();
    }
}

/// A directory with an empty lock file in it, and processes of ours that lock it. Removed when
/// dropped.
#[derive(Debug)]
pub struct PeerDir(Dir);

impl Default for PeerDir {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerDir {
    /// Creates one.
    ///
    /// # Panics
    ///
    /// If the system cannot.
    pub fn new() -> Self {
        let dir = Self(Dir::new());
        std::fs::write(dir.lock(), "").expect("the lock file can be created");
        dir
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.0.path()
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.0.path("lock")
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

/// Whether `strace` is installed. In CI it must be.
///
/// # Panics
///
/// If it is missing in CI.
pub fn can_trace() -> bool {
    match Command::new("strace").arg("--version").output() {
        Ok(_) => true,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "CI must have strace: {e}");
            not_tested(format_args!("strace is not installed: {e}"));
            false
        }
    }
}

/// The `locket` tool, built beside the tests. `cargo test --workspace` and nextest build it.
///
/// # Panics
///
/// If it is missing or older than its sources, so that nothing else is tested instead.
pub fn tool() -> PathBuf {
    let path = beside_the_tests("locket");
    let built = path.metadata().and_then(|m| m.modified());
    let built = built.unwrap_or_else(|e| panic!("{}: {e}; {BUILD}", path.display()));
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host");
    let sources = ["src", "wasmtime/src", "cli/src"].map(|sources| newest(&host.join(sources)));
    assert!(
        sources.iter().all(|changed| *changed <= built),
        "the tool is older than its sources; {BUILD}"
    );
    path
}

/// The program `peer` of the package `locket-tests`, which locks files as each line tells it.
pub fn peer() -> PathBuf {
    beside_the_tests("peer")
}

fn beside_the_tests(program: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this test has a path");
    let folder = tests
        .ancestors()
        .nth(2)
        .expect("this test is in the target folder");
    folder.join(program)
}

const BUILD: &str = "run `cargo build --profile test --workspace --bins` first, or the tests of the whole workspace";

fn newest(folder: &Path) -> std::time::SystemTime {
    let entries = folder
        .read_dir()
        .expect("the sources can be listed")
        .map(|entry| entry.expect("the source can be looked at"));
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
