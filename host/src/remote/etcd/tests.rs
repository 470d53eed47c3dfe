//! The seats of a cluster, against real servers.

mod faults;
mod locking;
mod losses;
mod refusals;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use locket_test_support::servers::etcd::Etcd as Cluster;
use locket_test_support::waits::{QUIESCENT, STUCK, eventually};

use super::Etcd;
use crate::deadline::Deadline;
use crate::remote::{Changed, Grant, Seat, Server as _, Settings, Standing, Stop};
use crate::types::Mode;

/// What a remote is made with, unless a test says otherwise.
fn settings(ttl: u64) -> Settings {
    Settings {
        ttl: Duration::from_secs(ttl),
        request_timeout: Duration::from_secs(5),
        password: None,
        label: None,
    }
}

/// A process as the server sees it.
fn remote(url: &str, ttl: u64) -> Etcd {
    Etcd::new(url, &settings(ttl)).expect("the URL is valid")
}

/// A seat that nothing listens to.
fn seat(remote: &Etcd, name: &str) -> Arc<dyn Seat> {
    remote.seat(name, &Arc::default())
}

/// Acquires the lock, which is free.
#[track_caller]
fn hold(seat: &Arc<dyn Seat>, mode: Mode) -> u64 {
    assert!(
        seat.try_lock(mode).expect("the server answers"),
        "it is free"
    );
    token(seat)
}

#[track_caller]
fn token(seat: &Arc<dyn Seat>) -> u64 {
    // While the cluster elects a leader, it confirms nothing.
    eventually("it is held for certain", || is_held(seat));
    let Standing::Held(Grant { token, valid_for }) = seat.standing() else {
        panic!("it is not held: {seat:?}");
    };
    assert!(valid_for.is_some_and(|time| !time.is_zero()));
    assert_eq!(token, seat.token());
    token.expect("etcd has tokens")
}

fn is_held(seat: &Arc<dyn Seat>) -> bool {
    matches!(seat.standing(), Standing::Held(_))
}

/// A thread that waits for a lock.
struct Waiter {
    seat: Arc<dyn Seat>,
    stop: Arc<Stop>,
    result: Receiver<std::io::Result<()>>,
}

impl Waiter {
    fn start(seat: Arc<dyn Seat>, mode: Mode, deadline: Deadline) -> Self {
        let stop = Arc::new(Stop::default());
        let (done, result) = mpsc::channel();
        let (waiting, stopped) = (Arc::clone(&seat), Arc::clone(&stop));
        thread::spawn(move || done.send(waiting.wait(mode, deadline, &stopped)));
        Self { seat, stop, result }
    }

    fn forever(seat: Arc<dyn Seat>, mode: Mode) -> Self {
        Self::start(seat, mode, Deadline::Never)
    }

    #[track_caller]
    fn waits(&self) {
        let result = self.result.recv_timeout(QUIESCENT);
        assert!(result.is_err(), "it does not wait: {result:?}");
    }

    fn result(&self) -> std::io::Result<()> {
        let result = self.result.recv_timeout(STUCK);
        result.expect("the wait ends")
    }

    /// The seat, with the lock.
    #[track_caller]
    fn granted(self) -> Arc<dyn Seat> {
        self.result().expect("it is granted");
        self.seat
    }
}

/// Waits until the lock has this many keys.
#[track_caller]
fn keys(cluster: &Cluster, name: &str, count: usize) {
    let what = format!("{count} keys of {name}");
    eventually(&what, || cluster.keys(&format!("{name}/")).len() == count);
}

/// Waits until nothing is left of any client, though leases are to be gone in time.
#[track_caller]
fn nothing_is_left(cluster: &Cluster) {
    eventually("no keys", || cluster.keys("/").is_empty());
    eventually("no leases", || cluster.leases().is_empty());
}

fn soon(time: Duration) -> Deadline {
    Deadline::At(Instant::now() + time)
}

/// A changed standing that a test can wait for.
fn listener() -> (Arc<Changed>, Receiver<Instant>) {
    struct Told(mpsc::SyncSender<Instant>);
    impl std::task::Wake for Told {
        fn wake(self: Arc<Self>) {
            let _ = self.0.try_send(Instant::now());
        }
    }
    let (told, times) = mpsc::sync_channel(1000);
    let changed = Arc::new(Changed::default());
    changed.listen(Arc::new(Told(told)).into());
    (changed, times)
}
