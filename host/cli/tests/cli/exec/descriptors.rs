//! `locket exec DESCRIPTOR`, and few descriptors.

use std::process::{Command, Stdio};

use locket_test_support::proc_locks::kernel_waiters;
use locket_test_support::waits::eventually;

use super::foreign::Foreign;
use super::is_free;
use crate::support::{Dir, Holder, code, output, python};

/// A shell in which `locket exec` is `"$0"`, and the lock file is `"$1"`.
fn shell(script: &str, dir: &Dir) -> Command {
    let mut shell = Command::new("bash");
    let script = format!("locket() {{ \"$0\" exec \"$@\"; }}\n{script}");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_locket")]);
    shell.arg(dir.path("lock"));
    shell
}

#[test]
fn the_lock_of_a_descriptor_stays_until_it_is_closed() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = "exec 9>>\"$1\"; locket -n 9 && echo ready; cat";
    let holder = Holder::start(shell(held, &dir));
    assert!(!is_free(&[], &lock));
    for foreign in Foreign::ALL {
        assert!(!foreign.is_free(&lock), "{foreign:?}");
    }
    assert_eq!(holder.end(), 0);
    assert!(is_free(&[], &lock));
    for given_back in ["locket -u 9", "exec 9>&-"] {
        let script = format!("exec 9>>\"$1\"; locket -n 9; {given_back}; echo ready; cat");
        let holder = Holder::start(shell(&script, &dir));
        assert!(is_free(&[], &lock), "{given_back}");
        for foreign in Foreign::ALL {
            assert!(foreign.is_free(&lock), "{foreign:?}: {given_back}");
        }
        assert_eq!(holder.end(), 0);
    }
}

/// Its caller reads the signals that it blocks.
#[test]
fn a_wait_for_a_descriptor_ends_although_the_caller_blocks_all_signals() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::flock(&lock);
    let script = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.dup2(f.fileno(), 9)
os.execv(sys.argv[2], sys.argv[2:] + ['exec', '-w', '0.05', '-E', '6', '9'])";
    let mut blocks = python(script, &lock);
    blocks.arg(env!("CARGO_BIN_EXE_locket"));
    assert_eq!(code(blocks), 6);
    holder.end();
}

#[test]
fn a_descriptor_waits_for_its_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for call in ["fcntl.flock", "fcntl.lockf"] {
        let holder = Holder::python(&format!("{call}(f, fcntl.LOCK_EX)"), &lock);
        let late = output(shell("exec 9>>\"$1\"; locket -w 0.05 -E 6 9", &dir));
        assert_eq!(late.status.code(), Some(6), "{late:?}");
        // What it took before it gave up is free again.
        let other = ["fcntl.flock", "fcntl.lockf"]
            .into_iter()
            .find(|other| *other != call);
        let free = format!("{}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)", other.unwrap());
        assert!(output(python(&free, &lock)).status.success(), "{call}");

        let mut waits = shell("exec 9>>\"$1\"; echo go; locket 9 && echo locked", &dir);
        let mut child = waits.stdout(Stdio::piped()).spawn().unwrap();
        eventually("it waits", || kernel_waiters(&lock) == 1);
        // It keeps no user of the other kind of lock out.
        assert!(output(python(&free, &lock)).status.success(), "{call}");
        assert_eq!(holder.end(), 0);
        let mut printed = String::new();
        std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut printed).unwrap();
        assert_eq!(printed, "go\nlocked\n");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_protocol_that_a_descriptor_cannot_have_is_an_error() {
    let dir = Dir::new();
    dir.write("lock", "");
    let refused = output(shell("exec 9<\"$1\"; locket --protocol native -n 9", &dir));
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    let shared = output(shell(
        "exec 9<\"$1\"; locket --protocol native -s -n 9",
        &dir,
    ));
    assert!(shared.status.success(), "{shared:?}");
}

#[test]
fn too_few_descriptors_are_not_a_conflict() {
    let dir = Dir::new();
    dir.write("lock", "");
    let mut ran = 0;
    for limit in 3..=14 {
        let script = format!("ulimit -n {limit}; locket -n -E 75 \"$1\" true");
        let output = output(shell(&script, &dir));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => ran += 1,
            Some(69 | 71) => assert!(message.contains("open files"), "{limit}: {message}"),
            // The loader of this system has no descriptor to open a library.
            Some(127) => assert!(message.contains("shared libraries"), "{limit}: {message}"),
            code => panic!("{limit}: {code:?} {message}"),
        }
    }
    assert!(ran > 5, "{ran}");
}
