//! The exit code and the arguments of the command.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::is_free;
use crate::support::{Dir, code, exec, locket, output};

#[test]
fn the_exit_code_is_that_of_the_command() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for expected in [0, 1, 7, 64, 255] {
        assert_eq!(
            code(exec(&[], &lock, &["sh", "-c", &format!("exit {expected}")])),
            expected
        );
    }
    assert_eq!(
        code(exec(&[], &lock, &["sh", "-c", "kill -TERM $$"])),
        128 + 15
    );
    assert_eq!(
        code(exec(&[], &lock, &["sh", "-c", "kill -KILL $$"])),
        128 + 9
    );
}

#[test]
fn usage_errors_exit_with_64() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for options in [
        &["--nonsense"][..],
        &["--protocol", "nonsense"],
        &["-w", "soon"],
        &["-w", "-1"],
        &["-w", "1e99"],
        &["-E", "256"],
    ] {
        let output = output(exec(options, &lock, &["true"]));
        assert_eq!(output.status.code(), Some(64), "{options:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    assert_eq!(code(exec(&[], &lock, &[])), 64);
    assert_eq!(code(locket(&[])), 64);
    assert_eq!(code(locket(&["nonsense"])), 64);
    assert_eq!(code(locket(&["--help"])), 0);
    assert_eq!(code(locket(&["--version"])), 0);
    assert_eq!(code(locket(&["exec", "--help"])), 0);
    assert!(!lock.exists());
}

#[test]
fn a_lock_file_that_cannot_be_opened_exits_with_66() {
    let dir = Dir::new();
    for path in ["missing/lock", "fifo"] {
        let path = dir.path(path);
        if path.ends_with("fifo") {
            assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let output = output(exec(&[], &path, &["echo", "ran"]));
        assert_eq!(output.status.code(), Some(66), "{output:?}");
        assert!(output.stdout.is_empty());
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains(&*path.to_string_lossy())
        );
    }
}

#[test]
fn a_name_that_is_too_long_for_a_protocol_is_told() {
    let dir = Dir::new();
    let lock = dir.path(&"n".repeat(252));
    for (protocol, expected) in [("link", 66), ("mkdir", 66), ("symlink", 66), ("soft", 0)] {
        let output = output(exec(&["--protocol", protocol], &lock, &["true"]));
        assert_eq!(output.status.code(), Some(expected), "{protocol}");
        let said = String::from_utf8(output.stderr).unwrap();
        let told = said.contains("too long for this protocol") && said.contains("a shorter name");
        assert_eq!(told, expected != 0, "{said}");
    }
}

#[test]
fn a_command_that_cannot_run_exits_with_126_or_127_and_frees_the_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let text = dir.write("text", "no program");
    assert_eq!(code(exec(&[], &lock, &[text.to_str().unwrap()])), 126);
    assert_eq!(code(exec(&[], &lock, &["no-such-command-anywhere"])), 127);
    // A shell runs a script that does not say of which shell it is, as with flock(1).
    let script = dir.write("script", "exit 3");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(code(exec(&[], &lock, &[script.to_str().unwrap()])), 3);
    assert!(is_free(&[], &lock));
}

#[test]
fn arguments_after_the_dashes_belong_to_the_command() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let echo = |command: &[&str]| {
        let output = output(exec(&["-n"], &lock, command));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        echo(&["echo", "-v", "--help", "--", "-n", "a  b"]),
        "-v --help -- -n a  b\n"
    );
    // As with flock(1), the dashes may be left out.
    let mut bare = locket(&["exec", "-n"]);
    bare.arg(&lock).args(["echo", "-s", "--shared", "--", "x"]);
    assert_eq!(output(bare).stdout, b"-s --shared -- x\n");
}
