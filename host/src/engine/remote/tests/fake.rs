//! A lock server in memory, which does what a test tells it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::deadline::Deadline;
use crate::remote::{Changed, Grant, Remote, Runtime, Seat, Server, Standing, Stop, unavailable};
use crate::sync::{Condvar, Mutex, lock};
use crate::types::{ForeignHolder, Guarantee, LostReason, Mode, Scope};

/// The state of the server, shared by those that are connected to it.
#[derive(Debug, Default)]
pub(super) struct State {
    locks: Mutex<HashMap<String, Lock>>,
    seats: Mutex<Vec<Arc<Inner>>>,
    changed: Notify,
    revision: AtomicU64,
    next: AtomicU64,
    pub(super) renewals: AtomicUsize,
    /// The most seats that waited for one lock at once.
    pub(super) most_waiting: AtomicUsize,
    /// Whether it answers.
    pub(super) down: AtomicBool,
    pub(super) refuses_renewal: AtomicBool,
    /// How many it keeps waiting for its answer, if it is silent.
    silent: Mutex<Option<usize>>,
    speaks: Condvar,
}

#[derive(Debug, Default)]
struct Lock {
    holders: Vec<(u64, Mode)>,
    waiting: VecDeque<(u64, Mode)>,
}

impl Lock {
    fn admits(&self, mode: Mode) -> bool {
        self.holders.is_empty()
            || mode == Mode::Shared && self.holders.iter().all(|(_, held)| *held == Mode::Shared)
    }
}

/// One connection to the server.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) state: Arc<State>,
    runtime: Runtime,
    seats: Mutex<Vec<Arc<Inner>>>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    name: String,
    standing: Mutex<Standing>,
    changed: Arc<Changed>,
}

#[derive(Debug)]
struct FakeSeat {
    state: Arc<State>,
    runtime: Runtime,
    inner: Arc<Inner>,
}

impl Fake {
    pub(super) fn connect(state: &Arc<State>) -> (Arc<Self>, Remote) {
        let fake = Arc::new(Self {
            state: Arc::clone(state),
            runtime: Runtime::start("fake").expect("a thread can start"),
            seats: Mutex::default(),
        });
        let remote = Remote::of(Arc::clone(&fake) as Arc<dyn Server>, "fake://");
        (fake, remote)
    }

    /// Changes the standing of all that is held over this connection.
    pub(super) fn set_standing(&self, standing: Standing) {
        self.set_standing_and_tell(standing, true);
    }

    /// The same, which no one is told yet.
    pub(super) fn set_standing_and_tell(&self, standing: Standing, tell: bool) {
        for seat in lock(&self.seats).iter() {
            let mut now = lock(&seat.standing);
            if *now == Standing::Free {
                continue;
            }
            *now = standing;
            drop(now);
            if matches!(standing, Standing::Lost(_)) {
                self.state.give_back(seat);
            }
            if tell {
                seat.changed.tell();
            }
        }
    }

    /// A grant that is held over this connection.
    pub(super) fn grant(&self) -> Option<Grant> {
        lock(&self.seats)
            .iter()
            .find_map(|seat| match *lock(&seat.standing) {
                Standing::Held(grant) => Some(grant),
                _ => None,
            })
    }

    pub(super) fn waiting(&self, name: &str) -> usize {
        lock(&self.state.locks)
            .get(name)
            .map_or(0, |lock| lock.waiting.len())
    }
}

impl State {
    /// Answers nothing from now on, or answers again.
    pub(super) fn set_silent(&self, silent: bool) {
        *lock(&self.silent) = silent.then_some(0);
        self.speaks.notify_all();
    }

    /// How many wait for an answer of the silent server.
    pub(super) fn unanswered(&self) -> usize {
        lock(&self.silent).unwrap_or(0)
    }

    fn answer(&self) -> io::Result<()> {
        let mut silent = lock(&self.silent);
        if let Some(asking) = &mut *silent {
            *asking += 1;
            // Bounded, so that a test that fails ends.
            let speaks = self
                .speaks
                .wait_timeout_while(silent, super::LONG, |silent| silent.is_some());
            drop(speaks);
        }
        match self.down.load(Ordering::SeqCst) {
            true => Err(unavailable("the fake server is down")),
            false => Ok(()),
        }
    }

    fn give_back(&self, seat: &Inner) {
        let mut locks = lock(&self.locks);
        if let Some(lock) = locks.get_mut(&seat.name) {
            lock.holders.retain(|(id, _)| *id != seat.id);
            lock.waiting.retain(|(id, _)| *id != seat.id);
        }
        drop(locks);
        self.changed.notify_waiters();
    }

    fn granted(&self, seat: &Inner) {
        let token = self.revision.fetch_add(1, Ordering::SeqCst) + 1;
        *lock(&seat.standing) = Standing::Held(Grant {
            token: Some(token),
            valid_for: Some(Duration::from_secs(10)),
        });
    }

    fn enter(&self, seat: &Inner, mode: Mode, wait: bool) -> bool {
        let mut locks = lock(&self.locks);
        let lock = locks.entry(seat.name.clone()).or_default();
        let queued = lock.waiting.iter().position(|(id, _)| *id == seat.id);
        let first = queued.unwrap_or(lock.waiting.len()) == 0;
        if first && lock.admits(mode) {
            lock.waiting.retain(|(id, _)| *id != seat.id);
            lock.holders.push((seat.id, mode));
            self.granted(seat);
            return true;
        }
        if wait && queued.is_none() {
            lock.waiting.push_back((seat.id, mode));
            let waiting = lock.waiting.len();
            self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
        }
        false
    }
}

impl Server for Fake {
    fn guarantee(&self) -> Guarantee {
        Guarantee {
            scope: Scope::Cluster,
            ttl: Some(Duration::from_secs(10)),
            fifo: true,
            fencing: true,
        }
    }

    fn check_name(&self, name: &str) -> io::Result<()> {
        match name.is_empty() {
            true => Err(io::ErrorKind::InvalidInput.into()),
            false => Ok(()),
        }
    }

    fn seat(&self, name: &str, changed: &Arc<Changed>) -> Arc<dyn Seat> {
        let inner = Arc::new(Inner {
            id: self.state.next.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            standing: Mutex::new(Standing::Free),
            changed: Arc::clone(changed),
        });
        lock(&self.seats).push(Arc::clone(&inner));
        lock(&self.state.seats).push(Arc::clone(&inner));
        Arc::new(FakeSeat {
            state: Arc::clone(&self.state),
            runtime: self.runtime.clone(),
            inner,
        })
    }

    fn holder(&self, name: &str) -> io::Result<Option<ForeignHolder>> {
        self.state.answer()?;
        let locks = lock(&self.state.locks);
        let holder = locks.get(name).and_then(|lock| lock.holders.first());
        Ok(holder.map(|(_, mode)| ForeignHolder::new(*mode)))
    }

    fn break_lock(&self, name: &str) -> io::Result<bool> {
        self.state.answer()?;
        let mut locks = lock(&self.state.locks);
        let holders = locks
            .get_mut(name)
            .map(|lock| std::mem::take(&mut lock.holders));
        drop(locks);
        self.state.changed.notify_waiters();
        let broken = holders.unwrap_or_default();
        for seat in lock(&self.state.seats).iter() {
            if broken.iter().any(|(id, _)| *id == seat.id) {
                *lock(&seat.standing) = Standing::Lost(LostReason::Broken);
                seat.changed.tell();
            }
        }
        Ok(!broken.is_empty())
    }
}

impl Seat for FakeSeat {
    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        self.state.answer()?;
        Ok(self.state.enter(&self.inner, mode, false))
    }

    fn wait(&self, mode: Mode, deadline: Deadline, stop: &Stop) -> io::Result<()> {
        self.state.answer()?;
        let (state, inner) = (Arc::clone(&self.state), Arc::clone(&self.inner));
        let stop = stop.stopped();
        let at = deadline.instant().map(tokio::time::Instant::from_std);
        let waited = self.runtime.run(async move {
            let entered = async {
                loop {
                    let changed = state.changed.notified();
                    if state.enter(&inner, mode, true) {
                        return;
                    }
                    changed.await;
                }
            };
            let late = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop => Err(io::ErrorKind::Interrupted.into()),
                () = entered => Ok(()),
                () = late => Err(io::ErrorKind::TimedOut.into()),
            }
        });
        if waited.is_err() {
            self.unlock()?;
        }
        waited
    }

    fn unlock(&self) -> io::Result<()> {
        self.state.answer()?;
        self.state.give_back(&self.inner);
        *lock(&self.inner.standing) = Standing::Free;
        Ok(())
    }

    fn renew(&self) -> io::Result<()> {
        self.state.renewals.fetch_add(1, Ordering::SeqCst);
        if self.state.refuses_renewal.load(Ordering::SeqCst) {
            return Err(unavailable("the fake server refuses"));
        }
        self.state.granted(&self.inner);
        Ok(())
    }

    fn standing(&self) -> Standing {
        *lock(&self.inner.standing)
    }

    fn token(&self) -> Option<u64> {
        match self.standing() {
            Standing::Held(grant) => grant.token,
            _ => None,
        }
    }
}

impl Drop for FakeSeat {
    fn drop(&mut self) {
        self.state.give_back(&self.inner);
    }
}
