//! `locket check`, on file systems that keep their promises and on some that do not.

mod answers;
mod broken;
mod cleanup;
mod overlay;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use locket_test_support::fuse::{self, FileSystem, Locks, Switches};
use locket_test_support::waits::STUCK;
use serde_json::Value;

use crate::support::{locket, output};

#[test]
#[ignore = "started by other tests"]
fn daemon() {
    fuse::daemon::serve();
}

/// A file system with such locks, of which nothing is kept once the test is over.
fn file_system(locks: Locks) -> Option<FileSystem> {
    mounted(locks, true)
}

fn mounted(locks: Locks, honours_interrupts: bool) -> Option<FileSystem> {
    let switches = Switches {
        locks,
        honours_interrupts,
    };
    FileSystem::of_test("check::daemon", switches)
}

/// An answer, and the exit code.
struct Checked {
    code: Option<i32>,
    report: Value,
}

impl Checked {
    fn of(mut check: Command) -> Self {
        let start = Instant::now();
        let output = output({
            check.arg("--json");
            check
        });
        assert!(start.elapsed() < STUCK, "{:?}", start.elapsed());
        let report = serde_json::from_slice(&output.stdout);
        Self {
            code: output.status.code(),
            report: report.unwrap_or_else(|e| panic!("{e}: {output:?}")),
        }
    }

    fn dir(dir: &Path) -> Self {
        let mut check = locket(&["check"]);
        check.arg(dir);
        Self::of(check)
    }

    /// The protocols with this verdict.
    fn with(&self, verdict: &str) -> Vec<&str> {
        let protocols = self.report["protocols"].as_array().unwrap().iter();
        let such = protocols.filter(|one| one["verdict"] == verdict);
        such.map(|one| one["protocol"].as_str().unwrap()).collect()
    }

    fn notes(&self) -> String {
        self.report["notes"].to_string()
    }
}

const ALL: [&str; 9] = [
    "native", "flock", "fcntl", "link", "symlink", "mkdir", "pid-file", "soft", "sqlite",
];
