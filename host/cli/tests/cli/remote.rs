//! Locks on real servers, from the command line.

use std::io::Read;
#[cfg(feature = "run")]
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use locket_test_support::waits::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Dir, Holder, code, full_pipe, kill, locket, output, start_threads_late};

/// Runs a test with the URL of each server that this build knows and this system has.
fn with_servers(test: impl Fn(&str)) {
    #[cfg(feature = "etcd")]
    if let Some(server) = locket_test_support::servers::etcd::Etcd::start(1) {
        test(&server.url("locks"));
    }
    #[cfg(feature = "postgres")]
    if let Some(server) = locket_test_support::servers::postgres::Postgres::start(&[]) {
        test(&server.url("postgres"));
    }
    let _ = test;
}

fn exec(url: &str, options: &[&str], command: &[&str]) -> Command {
    let mut exec = locket(&["exec", "--remote", url]);
    exec.args(options).arg("jobs/a").arg("--").args(command);
    exec
}

fn hold(url: &str, options: &[&str]) -> Holder {
    Holder::start(exec(url, options, &["sh", "-c", "echo ready; cat"]))
}

fn text(command: Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn a_lock_on_a_server_excludes_and_is_shared() {
    with_servers(|url| {
        let holder = hold(url, &[]);
        assert_eq!(code(exec(url, &["-n"], &["true"])), 1);
        assert_eq!(
            code(exec(url, &["-w", "0.1", "-E", "75", "-s"], &["true"])),
            75
        );
        assert_eq!(holder.end(), 0);
        let holder = hold(url, &["-s"]);
        assert_eq!(code(exec(url, &["-s", "-n"], &["sh", "-c", "exit 7"])), 7);
        assert_eq!(code(exec(url, &["-n"], &["true"])), 1);
        assert_eq!(holder.end(), 0);
        assert_eq!(code(exec(url, &["-n"], &["true"])), 0);
    });
}

#[test]
fn several_names_are_all_locked() {
    with_servers(|url| {
        let both = ["--also", "jobs/b"];
        let holder = hold(url, &both);
        for name in ["jobs/a", "jobs/b"] {
            let other = locket(&["exec", "--remote", url, "-n", name, "--", "true"]);
            assert_eq!(code(other), 1, "{name}");
        }
        assert_eq!(holder.end(), 0);
        let tokens = text(exec(url, &both, &["sh", "-c", "echo $LOCKET_TOKEN"]));
        assert_eq!(tokens.trim().split(',').count(), 2, "{tokens}");
    });
}

#[test]
fn a_descriptor_is_of_no_server() {
    for option in [&["--remote", "postgres://127.0.0.1/x"][..], &["--fencing"]] {
        let mut exec = locket(&["exec"]);
        exec.args(option).arg("9");
        assert_eq!(code(exec), 64, "{option:?}");
    }
}

#[test]
fn each_command_has_a_larger_token() {
    with_servers(|url| {
        let token = || {
            let printed = text(exec(url, &[], &["sh", "-c", "echo $LOCKET_TOKEN"]));
            printed.trim().parse::<u64>().expect("it is a number")
        };
        let tokens = [token(), token(), token()];
        assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    });
}

#[test]
#[cfg(feature = "postgres")]
fn what_a_server_lacks_is_said() {
    use locket_test_support::servers::postgres::Postgres;
    let Some(server) = Postgres::start(&[]) else {
        return;
    };
    server.sql("CREATE ROLE plain LOGIN");
    let said = |url: &str| {
        let output = output(exec(url, &[], &["true"]));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("it prints text")
    };
    let url = server.url("plain");
    let warning = said(&url);
    assert!(
        warning.contains("warning: grants carry no token: "),
        "{warning}"
    );
    assert_eq!(said(&(url + "?fencing=off")), "");
}

#[test]
fn status_names_the_holder() {
    with_servers(|url| {
        let status = |options: &[&str]| {
            let mut status = locket(&["status", "--remote", url]);
            status.args(options).arg("jobs/a");
            text(status)
        };
        assert_eq!(status(&[]), "jobs/a: free\n");
        let holder = hold(url, &[]);
        let held = status(&[]);
        assert!(held.starts_with("jobs/a: held exclusively by "), "{held}");
        let held: Value = serde_json::from_str(&status(&["--json"])).expect("it is JSON");
        assert_eq!(
            (&held["held"], &held["mode"]),
            (&json!(true), &json!("exclusive"))
        );
        assert_eq!(held["holders"][0]["protocol"], json!("remote"), "{held}");
        let both = locket(&["status", "--remote", url, "--json", "jobs/a", "jobs/b"]);
        let both: Value = serde_json::from_str(&text(both)).expect("it is one array");
        assert_eq!(
            [&both[0]["held"], &both[1]["held"]],
            [&json!(true), &json!(false)]
        );
        let watch = locket(&["status", "--remote", url, "--watch", "jobs/a"]);
        assert_eq!(code(watch), 64);
        assert_eq!(holder.end(), 0);
        eventually("it is free", || status(&[]) == "jobs/a: free\n");
    });
}

#[test]
fn a_lost_lock_ends_the_command() {
    with_servers(|url| {
        let break_lock = || {
            let mut command = locket(&["break", "--remote", url]);
            command.arg("jobs/a");
            code(command)
        };
        assert_eq!(break_lock(), 1, "it is free");
        let holder = hold(url, &[]);
        assert_eq!(break_lock(), 0);
        let (ended, _input) = holder.ended();
        assert_eq!(ended, 76);
        // Only reported, if that is wished.
        let dir = tempfile::tempdir().expect("a directory can be made");
        let said = dir.path().join("said");
        let mut warned = exec(
            url,
            &["--on-loss", "warn"],
            &["sh", "-c", "echo ready; cat"],
        );
        warned.stderr(std::fs::File::create(&said).expect("a file can be made"));
        let holder = Holder::start(warned);
        assert_eq!(break_lock(), 0);
        assert_eq!(code(exec(url, &["-w", "30"], &["true"])), 0);
        let said = || std::fs::read_to_string(&said).expect("it can be read");
        eventually("the loss is reported", || said().contains("was lost"));
        assert_eq!(holder.end(), 0);
    });
}

/// The command does not run without the lock, not even for a moment: `exec` is held up between the
/// grant and the start by a reader of its messages, until the time of its lease is over.
#[test]
fn a_lock_that_is_lost_before_the_command_starts_keeps_it_from_starting() {
    // As long as a busy machine may take to see that it has the locks.
    const TTL: Duration = Duration::from_secs(5);
    with_servers(|url| {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let ran = dir.path().join("ran");
        let (mut said, full) = full_pipe();
        let ttl = TTL.as_secs().to_string();
        // Many locks, of which the first one to tell of its loss must not end the process.
        let names: Vec<_> = (0..20)
            .map(|number| format!("--also=jobs/{number}"))
            .collect();
        let mut options = vec!["-v", "--ttl", &ttl];
        options.extend(names.iter().map(String::as_str));
        let mut exec = exec(url, &options, &["touch", &ran.display().to_string()]);
        let mut child = exec.stderr(full).spawn().expect("it starts");
        drop(exec);
        let granted = || {
            let mut status = locket(&["status", "--remote", url]);
            status.args(["jobs/a", "jobs/19"]);
            text(status).matches("held exclusively").count() == 2
        };
        eventually("it has the locks", granted);
        kill(&child, Signal::STOP);
        let stopped = Instant::now();
        eventually("its time is over", || stopped.elapsed() > TTL);
        kill(&child, Signal::CONT);
        let mut all = Vec::new();
        said.read_to_end(&mut all).expect("it can be read");
        let all = String::from_utf8_lossy(&all).into_owned();
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(76), "{status}: {all}");
        assert!(!ran.exists(), "the command ran: {all}");
    });
}

#[test]
fn a_command_ends_before_the_threads_that_wait_for_a_loss_begin() {
    with_servers(|url| {
        let dir = Dir::new();
        let mut exec = exec(url, &[], &["true"]);
        start_threads_late(&mut exec, &dir);
        assert_eq!(code(exec), 0);
    });
}

/// What is said of one lock keeps no other, although its reader does not read.
#[test]
fn a_loss_that_cannot_be_said_keeps_no_other_lock() {
    with_servers(|url| {
        for on_loss in ["term", "warn"] {
            let options = ["--also", "jobs/b", "--on-loss", on_loss];
            let mut exec = exec(url, &options, &["sh", "-c", "echo ready; cat"]);
            let (reader, full) = full_pipe();
            exec.stderr(full);
            let holder = Holder::start(exec);
            let mut break_lock = locket(&["break", "--remote", url]);
            break_lock.arg("jobs/a");
            assert_eq!(code(break_lock), 0);
            let waiting = std::thread::spawn(move || holder.end());
            let other = ["exec", "--remote", url, "-w", "30", "jobs/b", "--", "true"];
            assert_eq!(code(locket(&other)), 0, "{on_loss}");
            drop(reader);
            let ended = waiting.join().expect("it does not panic");
            assert_eq!(ended == 76, on_loss == "term", "{ended}");
        }
    });
}

#[test]
#[cfg(feature = "etcd")]
fn a_command_that_a_signal_ends_leaves_no_lease() {
    use locket_test_support::servers::etcd::Etcd;
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let command = ["sh", "-c", "kill -TERM $$"];
    assert_eq!(code(exec(&cluster.url("locks"), &[], &command)), 128 + 15);
    assert_eq!(cluster.leases(), [""; 0]);
}

#[test]
fn a_lost_lock_ends_the_command_even_if_the_caller_ignores_the_signal() {
    with_servers(|url| {
        let command = [
            "env",
            "--default-signal=TERM",
            "sh",
            "-c",
            "echo ready; cat",
        ];
        let exec = exec(url, &[], &command);
        let mut deaf = Command::new("sh");
        deaf.args(["-c", "trap '' TERM; exec \"$@\"", "sh"]);
        deaf.arg(exec.get_program()).args(exec.get_args());
        let holder = Holder::start(deaf);
        let mut break_lock = locket(&["break", "--remote", url]);
        break_lock.arg("jobs/a");
        assert_eq!(code(break_lock), 0);
        let (ended, _input) = holder.ended();
        assert_eq!(ended, 76);
    });
}

#[test]
#[cfg(feature = "run")]
fn processes_and_components_count_over_a_server() {
    with_servers(|url| {
        let args = ["demo", "--remote", url, "--increments", "20", "--json"];
        let report: Value = serde_json::from_str(&text(locket(&args))).expect("it is JSON");
        assert_eq!(report["protocol"], json!("remote"));
        assert_eq!(
            (&report["total"], &report["exact"]),
            (&json!(160), &json!(true))
        );
    });
}

#[test]
#[cfg(feature = "run")]
fn a_component_locks_names_of_the_server_that_is_granted() {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/counter.wasm");
    with_servers(|url| {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let run = |grant: &str| {
            let mut run = locket(&["run", "--dir"]);
            run.arg(format!("{}::/d", dir.path().display()));
            run.args(["--lock-remote", grant]).arg(&guest);
            run.args(["--lock", "/cluster/jobs/a", "--counter", "/d/n"]);
            run.args(["--journal", "/d/j", "--count", "5", "--id", "guest"]);
            run
        };
        assert_eq!(code(run(&format!("{url}::/cluster"))), 0);
        let count = std::fs::read_to_string(dir.path().join("n"));
        assert_eq!(count.expect("it has counted"), "5");
        assert_ne!(code(run(&format!("{url}::/other"))), 0, "it is not granted");
        // It waits for a native process.
        let holder = hold(url, &[]);
        let whole = run(&format!("{url}::/cluster"));
        let mut bounded = Command::new("timeout");
        bounded
            .arg("5")
            .arg(whole.get_program())
            .args(whole.get_args());
        assert_eq!(code(bounded), 124, "it waits");
        let count = std::fs::read_to_string(dir.path().join("n"));
        assert_eq!(
            count.expect("it has counted"),
            "5",
            "it does not count meanwhile"
        );
        let mut waiter = run(&format!("{url}::/cluster")).spawn().expect("it starts");
        assert_eq!(holder.end(), 0);
        assert!(waiter.wait().expect("it ends").success());
    });
}

#[test]
fn what_goes_wrong_is_said_and_no_secret() {
    let schemes: &[&str] = &[
        #[cfg(feature = "etcd")]
        "etcd",
        #[cfg(feature = "postgres")]
        "postgres",
    ];
    for scheme in schemes {
        // No program listens on the port of discard.
        let url = format!("{scheme}://someuser@127.0.0.1:9/locks");
        let mut away = exec(&url, &["-w", "5"], &["true"]);
        away.env("LOCKET_PASSWORD", "hush");
        let away = output(away);
        let said = String::from_utf8_lossy(&away.stderr).into_owned();
        assert_eq!(away.status.code(), Some(69), "{said}");
        assert!(
            said.contains("cannot be reached") && !said.contains("hush"),
            "{said}"
        );
        let url = format!("{scheme}://someuser:hush@127.0.0.1:9/locks");
        let refused = output(exec(&url, &[], &["true"]));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
    assert_eq!(code(exec("redis://127.0.0.1/", &[], &["true"])), 64);
    let mixed = exec("etcd://127.0.0.1/", &["--protocol", "flock"], &["true"]);
    assert_eq!(code(mixed), 64);
}
