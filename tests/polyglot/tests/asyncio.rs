//! Guests in Python that wait for locks in tasks of asyncio: on the event loop of the package, in one
//! `poll` of WASI 0.2, and on that of componentize-py, by the async functions of WASI 0.3.

use locket::{Guard, Mode};
use locket_tests::harness::{Host, STUCK, waiters};
use polyglot::Language;
use polyglot::host::{Guest, component};
use polyglot::languages::{python_polls, python_tasks};
use std::time::Duration;
use tokio::time::{sleep, timeout};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// As in `guests/python-asyncio/scenarios.py`.
const POLLS: &Language = &python_polls::LANGUAGE;
const TASKS: &Language = &python_tasks::LANGUAGE;

/// A host, and what it runs.
struct Case {
    host: Host,
    guest: Guest,
}

impl Case {
    /// None where the toolchain is missing.
    async fn new(language: &Language) -> Result<Option<Self>> {
        if !language.is_ready() {
            return Ok(None);
        }
        let host = Host::new();
        let guest = Guest::start(&component(&language.built()?.path)?, &host).await?;
        Ok(Some(Self { host, guest }))
    }

    /// Holds a lock, in the engine of the guest.
    fn hold(&self, name: &str) -> Result<Guard> {
        Ok(self.host.lock(name).acquire(Mode::Exclusive, None)?)
    }

    /// What came of a command.
    async fn run(&mut self, command: &str) -> Result<String> {
        Ok(timeout(STUCK, self.guest.run(command)).await??)
    }

    /// The same of a command that waits for `name`, which is released once it does.
    async fn run_and_release(&mut self, command: &str, name: &str, held: Guard) -> Result<String> {
        let lock = self.host.lock(name);
        let release = async {
            while waiters(&lock) == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            held.release()
        };
        let (said, released) = tokio::join!(timeout(STUCK, self.guest.run(command)), release);
        released?;
        Ok(said??)
    }

    /// Checks that no lock is held or awaited although the guest is still there, and that its loop
    /// has dropped every resource of the host.
    fn assert_left_alone(&mut self, name: &str) {
        assert_eq!(waiters(&self.host.lock(name)), 0, "waits for {name}");
        assert!(self.host.is_free(name), "holds {name}");
        assert_eq!(self.guest.resources(), 0, "resources");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_locks_are_awaited_at_once() -> Result {
    for language in [POLLS, TASKS] {
        let Some(mut case) = Case::new(language).await? else {
            return Ok(());
        };
        let held = case.hold("b")?;
        let said = case
            .run_and_release("join /locks/a /locks/b", "b", held)
            .await?;
        assert_eq!(said, "held=True,True", "{}", language.name);
        case.assert_left_alone("a");
        case.assert_left_alone("b");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_loses_a_race_with_a_timer_is_awaited_no_more() -> Result {
    // In WASI 0.3 the wait goes on until its own timeout, which must not end before the timer.
    for (language, patience) in [(POLLS, "none"), (TASKS, "5")] {
        let Some(mut case) = Case::new(language).await? else {
            return Ok(());
        };
        let held = case.hold("a")?;
        let said = case.run(&format!("race /locks/a {patience} 0.02")).await?;
        assert_eq!(said, "timer held=False", "{}", language.name);
        assert_eq!(waiters(&case.host.lock("a")), 0, "{}", language.name);
        held.release()?;
        case.assert_left_alone("a");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_loses_a_race_with_a_lock_changes_nothing() -> Result {
    for language in [POLLS, TASKS] {
        let Some(mut case) = Case::new(language).await? else {
            return Ok(());
        };
        let held = case.hold("a")?;
        let said = case
            .run_and_release("race /locks/a none 5", "a", held)
            .await?;
        assert_eq!(said, "lock held=True", "{}", language.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_cancelled_leaves_nothing_held() -> Result {
    let Some(mut case) = Case::new(POLLS).await? else {
        return Ok(());
    };
    let held = case.hold("a")?;
    assert_eq!(
        case.run("cancel /locks/a none").await?,
        "cancelled held=False"
    );
    assert_eq!(waiters(&case.host.lock("a")), 0);
    held.release()?;
    case.assert_left_alone("a");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_of_asyncio_ends_a_wait() -> Result {
    let Some(mut case) = Case::new(POLLS).await? else {
        return Ok(());
    };
    let held = case.hold("a")?;
    let said = case.run("impatient /locks/a 0.02").await?;
    assert_eq!(said, "TimeoutError held=False");
    held.release()?;
    case.assert_left_alone("a");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_wasi_0_3_a_cancelled_task_gives_back_what_it_is_granted() -> Result {
    let Some(mut case) = Case::new(TASKS).await? else {
        return Ok(());
    };
    let held = case.hold("a")?;
    let said = case
        .run_and_release("cancel /locks/a none", "a", held)
        .await?;
    assert_eq!(said, "cancelled held=False");
    case.assert_left_alone("a");
    let held = case.hold("a")?;
    assert_eq!(
        case.run("cancel /locks/a 0.02").await?,
        "cancelled held=False"
    );
    held.release()?;
    case.assert_left_alone("a");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_of_an_instance_hand_a_lock_over() -> Result {
    for language in [POLLS, TASKS] {
        let Some(mut case) = Case::new(language).await? else {
            return Ok(());
        };
        assert_eq!(
            case.run("handover /locks/a").await?,
            "first-acquired first-releases second-acquired",
            "{}",
            language.name
        );
        case.assert_left_alone("a");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_out_of_async_with_releases() -> Result {
    for language in [POLLS, TASKS] {
        let Some(mut case) = Case::new(language).await? else {
            return Ok(());
        };
        let said = case.run("scoped /locks/a none").await?;
        assert_eq!(said, "KeyError held=False", "{}", language.name);
        case.assert_left_alone("a");
        let _held = case.hold("a")?;
        let said = case.run("scoped /locks/a 0").await?;
        assert_eq!(said, "AlreadyLocked held=False", "{}", language.name);
        let said = case.run("scoped /locks/a 0.02").await?;
        assert_eq!(said, "LockTimeout held=False", "{}", language.name);
    }
    Ok(())
}
