//! What the tests of several subcommands need.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than any step of these tests takes, however busy the machine is.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(120);

/// A temporary directory.
pub(crate) struct Dir(tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be created"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file can be written");
        path
    }
}

/// The tool with these arguments.
pub(crate) fn locket(args: &[&str]) -> Command {
    let mut locket = Command::new(env!("CARGO_BIN_EXE_locket"));
    locket.args(args).stdin(Stdio::null());
    locket
}

/// `locket exec OPTIONS PATH -- COMMAND`.
pub(crate) fn exec(options: &[&str], path: &Path, command: &[&str]) -> Command {
    let mut exec = locket(&["exec"]);
    exec.args(options).arg(path).arg("--").args(command);
    exec
}

/// Makes the threads of a command begin late, as on a busy machine.
pub(crate) fn start_threads_late(command: &mut Command, dir: &Dir) {
    preload(command, dir, include_str!("support/late_threads.c"));
}

/// Makes a command late after each signal that it sends, as on a busy machine.
pub(crate) fn wait_after_signals(command: &mut Command, dir: &Dir) {
    preload(command, dir, include_str!("support/late_kill.c"));
}

/// Has a command use functions in C, built in `dir`, in place of those of the C library.
fn preload(command: &mut Command, dir: &Dir, functions: &str) {
    let (source, library) = (dir.path("late.c"), dir.path("late.so"));
    std::fs::write(&source, functions).expect("it can be written");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .args([&library, &source]);
    assert_eq!(code(cc), 0, "a C compiler is needed, as by Rust");
    command.env("LD_PRELOAD", library);
}

/// A pipe whose writers wait, until something is read.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe can be made");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("it can be set");
    while writer.write(b".").is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).expect("it can be set");
    (reader, writer)
}

pub(crate) fn output(mut command: Command) -> Output {
    command.output().expect("the command can be started")
}

/// The exit code of a command as a shell sees it: that of a signal that ended it is 128 more than
/// the signal.
pub(crate) fn code(command: Command) -> i32 {
    let status = output(command).status;
    let signal = || status.signal().expect("no exit code means a signal");
    status.code().unwrap_or_else(|| 128 + signal())
}

pub(crate) fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the child can be signaled");
}

/// A command that holds a lock. It has reported on its standard output that it is ready, and ends
/// when its standard input does.
pub(crate) struct Holder {
    child: Child,
    /// Open as long as the command may write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts a command that prints `ready` once it holds the lock.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the holder can be started");
        let stdout = child.stdout.take().expect("the output is a pipe");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the output is readable");
        assert_eq!(line, "ready\n");
        Self {
            child,
            _stdout: stdout,
        }
    }

    pub(crate) fn exec(options: &[&str], path: &Path) -> Self {
        Self::start(exec(options, path, &["sh", "-c", "echo ready; cat"]))
    }

    pub(crate) fn flock(path: &Path) -> Self {
        let mut flock = Command::new("flock");
        flock.arg(path).args(["sh", "-c", "echo ready; cat"]);
        Self::start(flock)
    }

    /// A Python program that locks the open file `f` with the statement `lock`.
    pub(crate) fn python(lock: &str, path: &Path) -> Self {
        let ready = "print('ready', flush=True)\nsys.stdin.read()";
        Self::start(python(&format!("{lock}\n{ready}"), path))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(&self.child, signal);
    }

    /// Ends the input of the command. Returns its exit code, or minus the signal that ended it.
    pub(crate) fn end(mut self) -> i32 {
        drop(self.child.stdin.take());
        self.wait()
    }

    /// Waits for the command to end without the end of its input. The input is returned: while it
    /// is open, children of the command live on.
    pub(crate) fn ended(mut self) -> (i32, Option<ChildStdin>) {
        // Waiting for a child would close it.
        let input = self.child.stdin.take();
        (self.wait(), input)
    }

    fn wait(&mut self) -> i32 {
        let status = self.child.wait().expect("the holder can be waited for");
        let signal = || status.signal().expect("no exit code means a signal");
        status.code().unwrap_or_else(|| -signal())
    }
}

/// A Python program in which `f` is the file at `path`, open for reading and appending.
pub(crate) fn python(script: &str, path: &Path) -> Command {
    let start = "import fcntl, signal, struct, sys\nf = open(sys.argv[1], 'a+')";
    let mut python = Command::new("python3");
    python.arg("-c").arg(format!("{start}\n{script}")).arg(path);
    python.stdin(Stdio::null());
    python
}
