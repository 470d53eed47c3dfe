//! `locket exec`, as a shell sees it, among the other programs of the system that lock files.

mod command_lines;
mod descriptors;
mod exit_codes;
mod foreign;
mod inheritance;
mod kinds_of_files;
mod lock_file;
mod nested;
mod several;
mod signals;
mod terminal;
mod waiting;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use crate::support::{LONGEST_RUN, code, exec};

/// Whether the lock can be acquired immediately.
fn is_free(options: &[&str], path: &Path) -> bool {
    let options = [options, &["-n", "-E", "99"]].concat();
    match code(exec(&options, path, &["true"])) {
        0 => true,
        99 => false,
        code => panic!("exit code {code}"),
    }
}

/// A timeout that does not run out in these tests, as an argument.
fn stuck() -> String {
    LONGEST_RUN.as_secs().to_string()
}

/// A `locket exec -v` that has reported that it waits.
fn waiter(options: &[&str], path: &Path, command: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let options = [options, &["-v"]].concat();
    let mut child = exec(&options, path, command)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the waiter can be started");
    let stderr = child.stderr.take().expect("standard error is a pipe");
    let mut stderr = BufReader::new(stderr);
    let mut line = String::new();
    stderr
        .read_line(&mut line)
        .expect("standard error is readable");
    assert!(line.contains("waiting for the"), "{line}");
    (child, stderr)
}
