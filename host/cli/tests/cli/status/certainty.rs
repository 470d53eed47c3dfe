//! Files that may be locks, or other files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use locket_test_support::not_tested;
use rustix::process::{Signal, geteuid};
use serde_json::json;

use super::{status, status_when, words};
use crate::support::{Dir, Holder, locket, output};

#[test]
fn a_file_beside_that_names_no_holder_may_be_a_lock() {
    let dir = Dir::new();
    let lock = dir.write("data", "");
    dir.write("data.lock", "");
    let answer = status(&lock);
    assert_eq!(answer["held"], json!(null), "{answer}");
    assert_eq!(answer["unknown"], json!("may-be-no-lock"), "{answer}");
    assert_eq!(answer["holders"][0]["pid"], json!(null), "{answer}");
    assert_eq!(answer["holders"][0]["protocol"], json!("link"), "{answer}");
    let expected = "perhaps held exclusively by an unknown process (link, held for ";
    assert!(words(&lock).starts_with(expected), "{}", words(&lock));
}

#[test]
fn in_a_repository_it_is_the_lock_of_git() {
    let dir = Dir::new();
    fs::create_dir(dir.path(".git")).unwrap();
    let index = dir.path(".git/index");
    assert_eq!(words(&index), "free (no such file yet)");
    dir.write(".git/index.lock", "DIRC");
    assert_eq!(status(&index)["held"], json!(true));
    let expected = "held exclusively by an unknown process (link, held for ";
    assert!(words(&index).starts_with(expected), "{}", words(&index));
}

/// It may have written it and lock nothing, or lock another file.
#[test]
fn the_number_of_a_living_process_may_be_no_lock() {
    let dir = Dir::new();
    let pid = std::process::id();
    let file = dir.write("app.pid", format!("{pid}\n"));
    let answer = status(&file);
    assert_eq!(answer["held"], json!(null), "{answer}");
    assert_eq!(answer["unknown"], json!("may-be-no-lock"), "{answer}");
    assert_eq!(answer["holders"][0]["pid"], json!(pid), "{answer}");
    let expected = format!("perhaps held exclusively by process {pid}, ");
    assert!(words(&file).starts_with(&expected));
}

#[test]
fn a_lock_in_a_database_is_found_if_the_database_is_named() {
    let dir = Dir::new();
    let (lock, database) = (dir.path("lock"), dir.path("locks.db"));
    let database = ["--database", database.to_str().unwrap()];
    let holder = Holder::exec(&[&["--protocol", "sqlite"][..], &database].concat(), &lock);
    let mut asked = locket(&["status"]);
    asked.args(database).arg(&lock);
    let text = String::from_utf8(output(asked).stdout).unwrap();
    assert!(text.contains("held exclusively by process "), "{text}");
    assert!(text.contains("(sqlite"), "{text}");
    holder.end();
}

#[test]
fn a_lock_that_only_another_user_can_take_over_is_told() {
    if !geteuid().is_root() {
        return not_tested(format_args!("only root can become another user"));
    }
    for protocol in ["mkdir", "soft", "pid-file"] {
        let dir = Dir::new();
        let lock = dir.path("lock");
        let sticky = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(dir.path(""), sticky).unwrap();
        // The other user may have no right to the one that was built.
        fs::copy(env!("CARGO_BIN_EXE_locket"), dir.path("locket")).unwrap();
        let holder = Holder::exec(&["--protocol", protocol], &lock);
        holder.signal(Signal::KILL);
        drop(holder.ended());
        status_when(&lock, |status| status["removable"] == json!(true));
        assert_eq!(words(&lock), "free (left behind by a dead holder)");
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        other.arg(dir.path("locket")).arg("status").arg(&lock);
        let answer = String::from_utf8(output(other).stdout).unwrap();
        let expected =
            ": free, but left behind by a dead holder where this user cannot remove it\n";
        assert!(answer.ends_with(expected), "{answer}");
    }
}
