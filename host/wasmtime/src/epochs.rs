//! Time limits that a wait for a lock does not use up.
//!
//! An epoch deadline is a point in time: it passes while a guest waits in a call of the host, and
//! the guest is interrupted as soon as it has got what it waited for. A guest that waits for a slow
//! holder then dies in its own critical section. So count the ticks in which the guest runs:
//! [`limit_running_time`].
//!
//! ```
//! use std::time::Duration;
//!
//! use locket_wasmtime::epochs;
//! # use wasmtime::{Config, Engine, Store};
//!
//! # fn main() -> wasmtime::Result<()> {
//! let engine = Engine::new(Config::new().epoch_interruption(true))?;
//! epochs::advance(&engine, Duration::from_millis(10))?;
//!
//! # let data = ();
//! let mut store = Store::new(&engine, data);
//! // Before each call: 2 s of running time for it, in slices of 10 ms.
//! epochs::limit_running_time(&mut store, 200, epochs::Between::Yield);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::thread;
use std::time::Duration;

use wasmtime::{Engine, Store, UpdateDeadline, format_err};

/// Advances the epoch of `engine` every `tick`, for as long as the engine exists. A thread of its own
/// does that: guests that do not yield may keep all those of a runtime busy. It inherits the signal mask
/// of the caller, so a program that reads signals from a descriptor blocks them before.
///
/// # Errors
///
/// Those of starting a thread.
#[expect(
    clippy::disallowed_methods,
    reason = "the condition is that time passes"
)]
pub fn advance(engine: &Engine, tick: Duration) -> io::Result<()> {
    let engine = engine.weak();
    let ticks = move || {
        loop {
            thread::sleep(tick);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    };
    let thread = thread::Builder::new().name("epochs".into());
    thread.spawn(ticks).map(drop)
}

/// What happens after each tick of a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Between {
    /// The guest continues. For guests that are called synchronously.
    Continue,
    /// The guest yields to the executor, so that other tasks on its thread run. For guests that are
    /// called asynchronously.
    Yield,
}

/// Interrupts the guest of `store` when it has run for `ticks` epochs from now on; `0` interrupts it
/// at once. Time in calls of the host does not count, apart from the tick in which such a call
/// begins or ends. Call it again before each call of a store that is used again, and the count
/// begins anew.
///
/// The error says that the running time is used up. It sets the epoch deadline of the store and its
/// callback, so use no others.
pub fn limit_running_time<T: 'static>(store: &mut Store<T>, ticks: u64, between: Between) {
    let mut left = ticks;
    store.set_epoch_deadline(u64::from(left > 0));
    store.epoch_deadline_callback(move |_| {
        // However many epochs have passed, the guest has run in the last one only.
        left = left.saturating_sub(1);
        if left == 0 {
            return Err(format_err!("the guest has used up its running time"));
        }
        Ok(match between {
            Between::Continue => UpdateDeadline::Continue(1),
            Between::Yield => UpdateDeadline::Yield(1),
        })
    });
}
