//! etcd3, a library of Python that keeps locks in etcd: a key that is there or not, without a queue.
//!
//! `tests/peers` installs it. No hand-off is measured: its waiter begins to watch the key later than it
//! looked at it, and so misses some releases.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use locket_test_support::process::Process;

/// A process with the library; none if it is not installed.
pub(crate) fn start(address: &str) -> Option<Process> {
    let program = std::env::current_exe().ok()?;
    let folders = program.ancestors();
    let mut pythons = folders.map(|folder| folder.join("peers/venv/bin/python"));
    let python = pythons.find(|python| python.is_file())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/servers/peer.py");
    let mut command = Command::new(python);
    command.arg(script).arg(address).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command);
    let ready = process.answer_within(Duration::from_secs(20));
    ready.map(|_| process)
}

/// The time of a turn, by its own clock.
pub(crate) fn turn(process: &mut Process, batch: u32) -> f64 {
    let time = process.ask(&batch.to_string());
    let time: f64 = time.parse().expect("it answers with a time");
    time / f64::from(batch)
}
