//! Guests and native processes.

use super::{PROTOCOLS, Result, Stage, dialogue};
use locket::Mode;
use locket_tests::harness::{QUIESCENT, STUCK};
use locket_tests::process::tool;
use std::fs;
use std::process::Command;
use std::time::Instant;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_and_native_processes_exclude_each_other() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let open = format!("open a /locks/{protocol} {protocol}");
        let mut guest = stage.guest().await?;
        let native = stage.native(protocol, protocol)?;

        dialogue(
            &mut guest,
            &[(&open, "ok"), ("acquire a exclusive 0", "ok")],
        )
        .await?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");
        assert!(native.is_locked()?);
        let holder = native.holder()?.expect("the lock has a holder");
        assert!(!holder.is_self, "{protocol}");
        // A waiter gets the lock as soon as it is free.
        let waiter = std::thread::spawn(move || {
            let start = Instant::now();
            let hold = native.acquire(Mode::Exclusive, Some(STUCK));
            hold.map(|hold| (hold.release(), start.elapsed()))
        });
        sleep(QUIESCENT).await;
        dialogue(&mut guest, &[("release a", "ok")]).await?;
        let (released, waited) = waiter.join().expect("the waiter does not panic")?;
        released?;
        assert!(waited >= QUIESCENT, "{protocol}: {waited:?}");

        let native = stage.native(protocol, protocol)?;
        let hold = native.acquire(Mode::Exclusive, None)?;
        dialogue(
            &mut guest,
            &[
                ("acquire a exclusive 0", "err would-block"),
                ("acquire a exclusive 20", "err timeout"),
                ("is-locked a", "ok true"),
                ("release a", "err not-owner"),
            ],
        )
        .await?;
        let mut waits = Box::pin(guest.run("acquire a exclusive none"));
        assert!(timeout(QUIESCENT, &mut waits).await.is_err(), "{protocol}");
        hold.release()?;
        assert_eq!(timeout(STUCK, waits).await??, "ok");
        drop(guest.run("release a").await?);
    }
    assert!(stage.names()?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_and_native_processes_count_without_a_loss() -> Result {
    const ROUNDS: u32 = 50;
    for protocol in PROTOCOLS {
        let Some(stage) = Stage::new()? else {
            return Ok(());
        };
        fs::write(stage.host.path("counter"), "0")?;
        let mut guests = Vec::new();
        for _ in 0..2 {
            let mut guest = stage.guest().await?;
            guests.push(tokio::spawn(async move {
                let open = format!("open a /locks/a {protocol}");
                let count = format!("count a {ROUNDS}");
                dialogue(&mut guest, &[(&open, "ok"), (&count, "ok")]).await
            }));
        }
        let locket = tool();
        let locket = locket.display();
        let natives: Vec<_> = (0..2)
            .map(|_| {
                let step = "n=$(cat counter); echo $((n + 1)) >counter";
                let one = format!("'{locket}' exec --protocol {protocol} a -- sh -c '{step}'");
                Command::new("sh")
                    .args([
                        "-ec",
                        &format!("i=0; while [ $i -lt {ROUNDS} ]; do {one}; i=$((i + 1)); done"),
                    ])
                    .current_dir(stage.host.dir.path())
                    .spawn()
            })
            .collect();
        for guest in guests {
            guest.await??;
        }
        for native in natives {
            assert!(native?.wait()?.success(), "{protocol}");
        }
        let counted = fs::read_to_string(stage.host.path("counter"))?;
        assert_eq!(counted.trim(), (4 * ROUNDS).to_string(), "{protocol}");
        assert_eq!(stage.names()?, ["counter"], "{protocol}");
    }
    Ok(())
}
