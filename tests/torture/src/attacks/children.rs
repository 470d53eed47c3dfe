//! A child process inherits no descriptor of a lock, and so does not keep it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::Result;
use locket::{Engine, Mode, Options, Protocol};
use locket_tests::harness::{Host, STUCK, eventually, waiters};

use crate::stage::{Context, Outcome};

/// Children for each protocol.
const ROUNDS: usize = 25;

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for protocol in [
        Protocol::Native,
        Protocol::Flock,
        Protocol::Fcntl,
        Protocol::PidFile,
        Protocol::Soft,
    ] {
        for _ in 0..ROUNDS {
            child(&mut outcome, protocol)?;
        }
    }
    Ok(outcome)
}

/// A child is started while a lock is held and awaited. The waiter gets the lock although the child
/// lives.
fn child(outcome: &mut Outcome, protocol: Protocol) -> Result<()> {
    let host = Host::new();
    let path = host.path("lock");
    let options = Options::new().protocol(protocol);
    let held = host.locks.open_with(&path, &options)?;
    let held = held.acquire(Mode::Exclusive, None)?;
    let next = Engine::new().open_with(&path, &options)?;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| next.acquire(Mode::Exclusive, STUCK).map(drop));
        eventually("the waiter is in line", || waiters(&next) == 1);
        let child = Sleeper::spawn()?;
        let inherited = child.descriptors(host.dir.path())?;
        outcome.must(inherited == 0, || {
            format!("{protocol:?}: a child inherited {inherited}")
        });
        held.release()?;
        let granted = waiting.join().expect("the waiter does not panic");
        outcome.must(granted.is_ok(), || format!("{protocol:?}: {granted:?}"));
        outcome.did("children", 1);
        Ok(())
    })
}

/// A process that waits for the end of its input; it ends when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn spawn() -> Result<Self> {
        let mut cat = Command::new("cat");
        let child = cat.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        Ok(Self(child))
    }

    /// The number of its descriptors of files in a directory.
    fn descriptors(&self, dir: &Path) -> Result<usize> {
        let all = fs::read_dir(format!("/proc/{}/fd", self.0.id()))?;
        let targets = all.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        Ok(targets.filter(|target| target.starts_with(dir)).count())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
