//! No living holder loses its lock to a guest, and taking over the lock of a dead holder removes nothing
//! else.

use locket_tests::process::{Process, peer};

use super::*;

/// Tries everything that a guest with kernel locks and the right to remove files can do to the entries of
/// the directory and to missing names. It knows all names, as a guest does that may read the directory.
async fn attack(guest: &mut Guest, host: &Host) {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // The number of no process.
    let dead = format!("{}.4194303", hostname.trim());
    let mut paths = names(host);
    for dir in ["k", "k.lock"] {
        paths.extend([format!("{dir}/inner"), format!("{dir}/{dead}")]);
    }
    paths.extend(["k", "k.lock", "k.lock.lock"].map(str::to_owned));
    for path in paths {
        for protocol in ["native", "flock", "fcntl"] {
            for mode in ["exclusive", "shared"] {
                let open = format!("open w /locks/{path} remove {protocol}");
                if guest.ask(&open).await != "ok" {
                    continue;
                }
                let acquired = guest.ask(&format!("acquire w {mode} 0")).await;
                if acquired.starts_with("ok") {
                    guest.ok("release w").await;
                }
                guest.ok("drop w").await;
            }
        }
    }
    // A record of a dead process, in place of one that was removed.
    guest.ask(&format!("open w /locks/k.lock/{dead}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_existence_lock_is_taken_from_its_living_holder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let database = elsewhere.path().join("locks.db");
    for protocol in ["soft", "pid-file", "link", "symlink", "mkdir", "sqlite"] {
        for rights in [REMOVES, Rights::READ_WRITE] {
            println!("{protocol}, {rights:?}");
            let host = Host::new();
            let guest = async |engine: &Engine, rights| {
                let ctx = LocketCtx::builder(engine).database(&database).unwrap();
                let ctx = ctx.grant_dir(&host.dir, "/locks", rights).unwrap();
                host.guest("remote", ctx.build()).await
            };
            // To each other like two processes.
            let mut holder = guest(&host.locks, Rights::READ_WRITE).await;
            let mut attacker = guest(&Engine::new(), rights).await;
            let mut next = guest(&Engine::new(), Rights::READ_WRITE).await;
            let open = format!("open k /locks/k keep {protocol}");
            holder.ok(&open).await;
            holder.ok("acquire k exclusive 0").await;
            next.ok(&open).await;
            attack(&mut attacker, &host).await;
            for path in [database.to_str().unwrap(), "/locks/../locks.db", "locks.db"] {
                attacker.err(&format!("open w {path} remove")).await;
            }
            let taken = next.ask("acquire k exclusive 0").await;
            assert_eq!(taken, "err would-block", "{protocol}, {rights:?}");
            assert!(holder.ok("state k").await.starts_with("held"));
            holder.ok("release k").await;
            next.ok("acquire k exclusive 5000").await;
            next.ok("release k").await;
        }
    }
}

/// `flock` and record locks do not exclude each other. So the holder of one must not remove a file on
/// which another process holds the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kernel_lock_is_split_by_a_removal_under_the_other_family() {
    let host = Host::new();
    for (family, other) in [("flock", "fcntl"), ("fcntl", "flock")] {
        for mode in ["exclusive", "shared"] {
            println!("{family}, {mode}");
            let mut holder = guest(&host, &host.locks, Rights::LOCKS).await;
            let mut attacker = guest(&host, &Engine::new(), REMOVES).await;
            let mut next = guest(&host, &Engine::new(), Rights::LOCKS).await;
            holder.ok(&format!("open a /locks/a keep {family}")).await;
            holder.ok(&format!("acquire a {mode} 0")).await;
            attacker
                .ok(&format!("open a /locks/a remove {other}"))
                .await;
            attacker.ok("acquire a exclusive 0").await;
            attacker.ok("release a").await;
            next.ok(&format!("open a /locks/a keep {family}")).await;
            assert_eq!(next.err("acquire a exclusive 0").await, "would-block");
            holder.ok("release a").await;
            next.ok("acquire a exclusive 0").await;
            next.ok("release a").await;
            // Now nothing is in the way of the removal.
            attacker.ok("acquire a exclusive 0").await;
            attacker.ok("release a").await;
            assert!(!host.path("a").exists());
        }
    }
}

/// Leaves a lock of `k` behind whose holder was killed.
fn leave_behind(host: &Host, protocol: &str) {
    let mut holder = Process::spawn(
        Command::new(peer())
            .arg(host.path("k"))
            .args(["--protocol", protocol]),
    );
    assert_eq!(holder.ask("acquire exclusive none"), "ok");
    holder.kill();
}

/// The file that names the dead holder.
fn record(host: &Host, protocol: &str) -> PathBuf {
    let all = names(host);
    let named = |name: &&String| name.contains("-0");
    match protocol {
        "link" | "mkdir" => host.path(all.iter().find(named).unwrap()),
        _ => host.path("k"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_over_removes_only_the_lock_of_the_dead_holder() {
    for protocol in ["link", "mkdir", "pid-file", "soft"] {
        for more in ["nothing", "content", "another file"] {
            let host = Host::new();
            leave_behind(&host, protocol);
            let record = record(&host, protocol);
            match more {
                "nothing" => {}
                "content" => {
                    let before = fs::read_to_string(&record).unwrap();
                    fs::write(&record, before + "precious data\n").unwrap();
                }
                _ if protocol == "mkdir" => fs::write(host.path("k.lock/data"), "").unwrap(),
                // The lock is a single file.
                _ => continue,
            }
            let before = snapshot(host.dir.path());
            let mut guest = guest(&host, &host.locks, Rights::READ_WRITE).await;
            guest.ok(&format!("open k /locks/k keep {protocol}")).await;
            let acquired = guest.ask("acquire k exclusive 0").await;
            if more == "nothing" {
                // The control: this holder is proven dead.
                assert!(acquired.starts_with("ok"), "{protocol}: {acquired}");
                guest.ok("release k").await;
                assert_eq!(names(&host), [""; 0], "{protocol}");
            } else {
                assert_eq!(acquired, "err would-block", "{protocol}, {more}");
                assert_unchanged(host.dir.path(), &before, protocol);
            }
        }
    }
}

/// The holder of a lock that is a directory cannot create files in it, which would stay after the
/// release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_created_within_a_lock() {
    let host = Host::new();
    for rights in [Rights::LOCKS, Rights::READ_WRITE] {
        let mut holder = guest(&host, &host.locks, Rights::READ_WRITE).await;
        holder.ok("open q /locks/q keep mkdir").await;
        holder.ok("acquire q exclusive 0").await;
        let before = snapshot(host.dir.path());
        let mut other = guest(&host, &host.locks, rights).await;
        for guest in [&mut holder, &mut other] {
            for path in ["q.lock/inner", "q.lock/../q.lock/inner", "./q.lock//inner"] {
                let open = format!("open i /locks/{path}");
                assert_eq!(guest.err(&open).await, "access-denied", "{path}");
            }
        }
        assert_unchanged(host.dir.path(), &before, "what is created within a lock");
        holder.ok("release q").await;
        assert_eq!(names(&host), [""; 0]);
    }
}
