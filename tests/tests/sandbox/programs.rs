//! Locks on the files of programs, which cannot be open for writing while they are executed.

use locket_tests::harness::eventually;
use locket_tests::process::{Process, peer};

use super::*;

/// A program in the directory. Another process copies it: if this one had it open for writing, a child
/// that another test starts at that moment would inherit the descriptor.
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
