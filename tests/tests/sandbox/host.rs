//! A guest learns nothing of the host outside its grant, and does not keep programs of the host from
//! being executed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use locket_tests::harness::{QUIESCENT, eventually};
use locket_tests::process::{Process, peer};

use super::*;

/// While a lock is open, a directory on its path is swapped for a link to somewhere outside. The guest
/// is told the same whether or not the target exists or may be searched.
async fn swapped_component() {
    let host = Host::new();
    let outside = tempfile::tempdir().unwrap();
    let sealed = outside.path().join("sealed");
    for dir in ["there/c", "sealed"] {
        fs::create_dir_all(outside.path().join(dir)).unwrap();
    }
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    let mut all = Vec::new();
    for (what, target) in [
        ("nothing", outside.path().join("nothing")),
        ("a directory", outside.path().join("there/c")),
        ("the file itself", outside.path().join("there")),
        ("one that may not be searched", sealed.clone()),
        ("one in that", sealed.join("deeper")),
        ("the home of root", "/root".into()),
        ("a directory in that", "/root/.ssh".into()),
        ("none in that", "/root/none".into()),
        ("a link of the system", "/proc/1/cwd".into()),
    ] {
        fs::create_dir(host.path("c")).unwrap();
        guest.ok("open a /locks/c/f").await;
        guest.ok("open held /locks/c/f").await;
        guest.ok("acquire held shared 0").await;
        let _ = fs::remove_file(outside.path().join("there/f"));
        fs::hard_link(host.path("c/f"), outside.path().join("there/f")).unwrap();
        fs::remove_dir_all(host.path("c")).unwrap();
        fs::set_permissions(&sealed, PermissionsExt::from_mode(0o000)).unwrap();
        symlink(&target, host.path("c")).unwrap();
        let mut told = Vec::new();
        for command in [
            "is-locked a",
            "holder a",
            "state a",
            "acquire a shared 0",
            "acquire a shared 50",
            "acquire a exclusive 0",
            "open b /locks/c/f",
            "open b /locks/c/new",
        ] {
            told.push(guest.ask(command).await);
        }
        fs::set_permissions(&sealed, PermissionsExt::from_mode(0o755)).unwrap();
        guest.ask("release held").await;
        println!("{what}: {told:?}");
        all.push((what, told));
        for name in ["a", "held"] {
            guest.ok(&format!("drop {name}")).await;
        }
        fs::remove_file(host.path("c")).unwrap();
    }
    for (what, told) in &all {
        assert_eq!(told, &all[0].1, "{what}");
    }
    assert!(all[0].1.iter().all(|told| !told.contains("access-denied")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_a_swapped_component_says_nothing_of_what_is_outside() {
    swapped_component().await;
    let uid = fs::metadata("/proc/self").unwrap().uid();
    if uid == 0 {
        // Root may search every directory, so do it again as another user.
        let inner = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "host::inner_swapped_component", "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&inner.stdout);
        println!("{stdout}");
        let stderr = String::from_utf8_lossy(&inner.stderr);
        assert!(inner.status.success(), "{stderr}");
        assert!(stdout.contains("1 passed"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test as another user"]
async fn inner_swapped_component() {
    swapped_component().await;
}

/// A program in the directory. Another process copies it: if this one had it open for writing, a child
/// that another test starts at this moment would inherit that.
fn program(host: &Host) -> PathBuf {
    let tool = host.path("tool");
    let copied = Command::new("cp").arg(peer()).arg(&tool).status();
    assert!(copied.unwrap().success());
    tool
}

/// Whether the program can be executed now.
fn runs(tool: &Path) -> bool {
    match Command::new(tool).arg("--help").output() {
        Ok(output) => output.status.success(),
        Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => false,
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_can_be_executed_until_its_lock_needs_writing() {
    let host = Host::new();
    let tool = program(&host);
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    for protocol in ["native", "flock", "fcntl"] {
        println!("{protocol}");
        guest
            .ok(&format!("open a /locks/tool keep {protocol}"))
            .await;
        assert!(runs(&tool));
        guest.ok("acquire a shared 0").await;
        assert!(runs(&tool));
        guest.ok("release a").await;
        assert_eq!(guest.ok("is-locked a").await, "false");
        assert!(runs(&tool));
        // This opens the file for writing, except in `flock`.
        guest.ok("acquire a exclusive 0").await;
        assert_eq!(runs(&tool), protocol == "flock");
        guest.ok("release a").await;
        guest.ok("acquire a exclusive 5000").await;
        guest.ok("drop a").await;
        eventually("it can be executed", || runs(&tool));
    }
}

/// While a program runs, its file cannot be opened for writing. Locks that do not need that still work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_of_a_running_program_can_be_shared() {
    let host = Host::new();
    let tool = program(&host);
    // Until its input ends.
    let running = Process::spawn(Command::new(&tool).arg(host.path("another")));
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    guest.ok("open a /locks/tool").await;
    guest.ok("acquire a shared 0").await;
    guest.ok("release a").await;
    assert_eq!(guest.err("acquire a exclusive 0").await, "access-denied");
    guest.ok("open b /locks/tool keep flock").await;
    guest.ok("acquire b exclusive 0").await;
    guest.ok("release b").await;
    assert!(running.finish());
    guest.ok("acquire a exclusive 0").await;
}

/// A handle that is open for writing and one that is not, on one file, are one lock with one queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_of_both_kinds_are_one_queue() {
    let host = Host::new();
    fs::write(host.path("f"), "data").unwrap();
    for [first, second] in [["native", "flock"], ["flock", "native"]] {
        println!("{first}, then {second}");
        let mut guests = Vec::new();
        for protocol in [first, second, first, second] {
            let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
            guest.ok(&format!("open f /locks/f keep {protocol}")).await;
            guests.push(guest);
        }
        guests[0].ok("acquire f exclusive 0").await;
        // The guest's own other handle, too: it would wait for itself.
        guests[0]
            .ok(&format!("open g /locks/f keep {second}"))
            .await;
        assert_eq!(guests[0].err("acquire g exclusive 0").await, "would-block");
        assert_eq!(guests[0].err("acquire g exclusive none").await, "deadlock");
        for guest in &mut guests[1..] {
            guest.wait("acquire f exclusive none").await;
        }
        for i in 0..guests.len() - 1 {
            guests[i].ok("release f").await;
            assert!(guests[i + 1].reply().await.starts_with("ok"));
            for later in guests.iter_mut().skip(i + 2) {
                let reply = later.reply_within(QUIESCENT / 2).await;
                assert_eq!(reply, None, "out of order");
            }
        }
        guests[3].ok("release f").await;
        for guest in guests {
            guest.end().await.result.unwrap().unwrap();
        }
    }
    assert_eq!(fs::read(host.path("f")).unwrap(), b"data");
}
