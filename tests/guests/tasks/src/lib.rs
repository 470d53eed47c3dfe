//! Waits for locks in concurrent tasks of WASI 0.3.
//!
//! The first argument selects a scenario. Prints one line: `ok` and a result, or
//! `err` and the kind of the error. In the second case, the guest fails.
//!
//! | arguments | does | prints |
//! |---|---|---|
//! | `join A B` | awaits two locks at once | `held=true,true` |
//! | `race PATH MS` | awaits a lock or a timer, and drops the other | `lock held=true` or `timer held=false` |
//! | `range PATH MS` | awaits a range or a timer, and drops the other | `lock` or `timer` |
//! | `handover PATH` | one task acquires the lock, another waits until it is released | the events in order |
//! | `cancel PATH` | begins to acquire a lock and immediately drops the future | `pending` or `ready`, `locked=BOOL held=BOOL` |

use exports::wasi::cli::run::Guest;
use futures_util::future::{Either, poll_fn, select, try_join};
use locket_guest::{LockFile, Mode, RangeFile, State};
use std::cell::RefCell;
use std::task::Poll;
use support::{Failure, reply};
use wasi::clocks::monotonic_clock;

wit_bindgen::generate!({ generate_all });

const MILLISECOND: u64 = 1_000_000;

struct Tasks;

impl Guest for Tasks {
    async fn run() -> Result<(), ()> {
        let args: Vec<_> = std::env::args().skip(1).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let result = match *args {
            ["join", a, b] => join(a, b).await,
            ["race", path, millis] => race(path, millis).await,
            ["range", path, millis] => range(path, millis).await,
            ["handover", path] => handover(path).await,
            ["cancel", path] => cancel(path).await,
            _ => Err(Failure::usage("arguments")),
        };
        let status = result.as_ref().map(drop).map_err(drop);
        println!("{}", reply(result));
        status
    }
}

async fn join(a: &str, b: &str) -> Result<String, Failure> {
    let (a, b) = (LockFile::open(a)?, LockFile::open(b)?);
    let _guards = try_join(
        a.acquire_async(Mode::Exclusive, None),
        b.acquire_async(Mode::Exclusive, None),
    )
    .await?;
    Ok(format!("held={},{}", is_held(&a), is_held(&b)))
}

async fn race(path: &str, millis: &str) -> Result<String, Failure> {
    let millis: u64 = millis.parse().map_err(|_| Failure::usage("milliseconds"))?;
    let lock = LockFile::open(path)?;
    let acquired = Box::pin(lock.acquire_async(Mode::Exclusive, None));
    let timer = Box::pin(monotonic_clock::wait_for(millis * MILLISECOND));
    match select(acquired, timer).await {
        Either::Left((guard, _)) => {
            let _guard = guard?;
            Ok(format!("lock held={}", is_held(&lock)))
        }
        Either::Right(((), acquired)) => {
            drop(acquired);
            Ok(format!("timer held={}", is_held(&lock)))
        }
    }
}

async fn range(path: &str, millis: &str) -> Result<String, Failure> {
    let millis: u64 = millis.parse().map_err(|_| Failure::usage("milliseconds"))?;
    let file = RangeFile::open(path)?;
    let locked = Box::pin(file.lock_async(Mode::Exclusive, 5..15, None));
    let timer = Box::pin(monotonic_clock::wait_for(millis * MILLISECOND));
    match select(locked, timer).await {
        Either::Left((locked, _)) => locked.map(|()| "lock".to_owned()).map_err(Failure::from),
        Either::Right(((), _)) => Ok("timer".to_owned()),
    }
}

async fn handover(path: &str) -> Result<String, Failure> {
    let lock = LockFile::open(path)?;
    let events = RefCell::new(Vec::new());
    let log = |event| events.borrow_mut().push(event);
    let first = async {
        let guard = lock.acquire_async(Mode::Exclusive, None).await?;
        log("first-acquired");
        monotonic_clock::wait_for(50 * MILLISECOND).await;
        log("first-releases");
        guard.release()
    };
    let second = async {
        let guard = lock.acquire_async(Mode::Exclusive, None).await?;
        log("second-acquired");
        guard.release()
    };
    try_join(first, second).await?;
    Ok(events.take().join(" "))
}

async fn cancel(path: &str) -> Result<String, Failure> {
    let lock = LockFile::open(path)?;
    let mut acquired = Box::pin(lock.acquire_async(Mode::Exclusive, None));
    let first_poll =
        poll_fn(|context| Poll::Ready(acquired.as_mut().poll(context).map_ok(drop))).await;
    drop(acquired);
    let first_poll = match first_poll {
        Poll::Pending => "pending",
        Poll::Ready(acquired) => acquired.map(|()| "ready")?,
    };
    Ok(format!(
        "{first_poll} locked={} held={}",
        lock.is_locked()?,
        is_held(&lock)
    ))
}

fn is_held(lock: &LockFile) -> bool {
    matches!(lock.state(), State::Held(_))
}

export!(Tasks);
