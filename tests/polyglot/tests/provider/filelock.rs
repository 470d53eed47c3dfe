//! Guests and the Python library filelock, which removes records that it cannot read.

use super::{Result, Stage, dialogue};
use locket_tests::process::Process;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python that has the libraries that `tests/peers` installs.
fn python() -> Option<PathBuf> {
    let program = env::current_exe().expect("the path of this test is known");
    let mut folders = program.ancestors().map(|folder| folder.join("peers"));
    let python = folders
        .find(|folder| folder.join("python").exists())
        .map(|folder| folder.join("venv/bin/python"));
    if python.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "`tests/peers` must have run in CI"
        );
        println!("NOT RUN: filelock is missing, run `tests/peers`");
    }
    python
}

/// A process of Python that tries once to lock at each line.
fn soft_file_lock(python: &Path, path: &Path) -> Process {
    let body = "import sys, filelock\n\
                lock = filelock.SoftFileLock(sys.argv[1])\n\
                for line in sys.stdin:\n\
                \x20try:\n\
                \x20 lock.acquire(timeout=float(line))\n\
                \x20 lock.release()\n\
                \x20 print('got', flush=True)\n\
                \x20except filelock.Timeout:\n\
                \x20 print('held', flush=True)\n";
    Process::spawn(Command::new(python).arg("-c").arg(body).arg(path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filelock_does_not_evict_a_guest() -> Result {
    let (Some(stage), Some(python)) = (Stage::new()?, python()) else {
        return Ok(());
    };
    for protocol in ["soft", "link"] {
        let path = match protocol {
            "soft" => stage.host.path("a"),
            _ => stage.host.path("a.lock"),
        };
        let mut peer = soft_file_lock(&python, &path);
        let mut guest = stage.guest().await?;
        let open = format!("open a /locks/a {protocol}");
        dialogue(
            &mut guest,
            &[(&open, "ok"), ("acquire a exclusive 0", "ok")],
        )
        .await?;
        // filelock removes a record that it cannot read after 2 s.
        assert_eq!(peer.ask("3.5"), "held", "{protocol}");
        dialogue(&mut guest, &[("release a", "ok")]).await?;
        assert_eq!(peer.ask("0"), "got", "{protocol}");
    }
    Ok(())
}
