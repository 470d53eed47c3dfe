//! What can be locked, and what opening it does to it.

use locket_test_support::not_tested;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::foreign::Foreign;
use super::is_free;
use crate::support::{Dir, Holder, code, exec, locket, output};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_and_a_device_have_the_lock_of_flock() {
    let dir = Dir::new();
    let directory = dir.path("directory");
    std::fs::create_dir(&directory).unwrap();
    let flock = |path: &Path| {
        let mut flock = Command::new("flock");
        flock.arg("-n").arg(path).arg("true");
        code(flock)
    };
    let holder = Holder::exec(&[], &directory);
    assert_eq!(flock(&directory), 1);
    assert!(!is_free(&[], &directory));
    assert_eq!(holder.end(), 0);
    let holder = Holder::flock(&directory);
    assert!(!is_free(&["-s"], &directory));
    assert_eq!(holder.end(), 0);
    assert_eq!(code(exec(&["-s"], Path::new("/dev/null"), &["true"])), 0);
    assert_eq!(
        code(exec(&["--protocol", "native"], &directory, &["true"])),
        66
    );
}

#[test]
fn a_program_can_be_started_while_it_is_locked() {
    let dir = Dir::new();
    let program = dir.path("program");
    std::fs::copy("/bin/true", &program).unwrap();
    for options in [&[][..], &["-s"], &["--protocol", "flock"]] {
        let holder = Holder::exec(options, &program);
        assert_eq!(code(Command::new(&program)), 0, "{options:?}");
        assert!(!Foreign::Flock1.is_free(&program), "{options:?}");
        assert!(!is_free(&[], &program), "{options:?}");
        assert_eq!(holder.end(), 0);
    }
}

#[test]
fn a_file_that_may_only_be_read_has_the_lock_of_flock() {
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut probe = Command::new("setpriv");
    if !output({
        probe.args(user).arg("true");
        probe
    })
    .status
    .success()
    {
        return not_tested(format_args!("only root can become another user"));
    }
    let dir = Dir::new();
    let lock = dir.write("lock", "");
    let tool = dir.path("locket");
    std::fs::copy(env!("CARGO_BIN_EXE_locket"), &tool).unwrap();
    set_mode(lock.parent().unwrap(), 0o1777);
    set_mode(&lock, 0o644);
    let other_user = |options: &[&str]| {
        let mut other = Command::new("setpriv");
        other
            .args(user)
            .arg(&tool)
            .args(["exec", "-n"])
            .args(options);
        other.arg(&lock).arg("true");
        code(other)
    };
    assert_eq!(other_user(&[]), 0);
    assert_eq!(other_user(&["-s"]), 0);
    assert_eq!(other_user(&["--protocol", "native"]), 66);
    let holder = Holder::exec(&[], &lock);
    assert_eq!(other_user(&[]), 1);
    assert_eq!(holder.end(), 0);
}

#[test]
fn watchers_see_no_writer_of_a_file_that_is_locked_without_one() {
    let script = "import ctypes, os, subprocess, sys
locket, lock = sys.argv[1:]
open(lock, 'w').close()
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(os.O_NONBLOCK)
IN_CLOSE_WRITE = 8
libc.inotify_add_watch(fd, lock.encode(), IN_CLOSE_WRITE)
def writers(*options):
    subprocess.run([locket, 'exec', *options, lock, 'true'], check=True)
    try: return len(os.read(fd, 4096)) // 16
    except BlockingIOError: return 0
assert writers('-s') == 0
assert writers('--protocol', 'flock') == 0
assert writers() == 1";
    let dir = Dir::new();
    let mut python = Command::new("python3");
    python.args(["-c", script, env!("CARGO_BIN_EXE_locket")]);
    python.arg(dir.path("lock"));
    let output = output(python);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_link_that_leads_nowhere_leads_to_the_file_that_it_names() {
    let dir = Dir::new();
    let link = dir.path("link");
    std::os::unix::fs::symlink("target", &link).unwrap();
    let holder = Holder::exec(&[], &link);
    assert!(!is_free(&[], &dir.path("target")));
    assert_eq!(holder.end(), 0);
    let lost = dir.path("lost");
    std::os::unix::fs::symlink("missing/target", &lost).unwrap();
    let mut exec = locket(&["exec", "-n"]);
    exec.arg(&lost).arg("true");
    let output = output(exec);
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("directory"), "{message}");
}
