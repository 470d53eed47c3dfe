//! File locks for WebAssembly components on hosts that have none.
//!
//! This component exports `locket:lock/api` and implements it with existence locks in the
//! directories that the host preopens. It also exports `ranges`, which are not supported. Plug it
//! into a guest that imports the interfaces; together they run on any WASI 0.2 host. The README lists
//! the limitations, and the programs that share these locks.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![cfg_attr(
    not(any(target_arch = "wasm32", test)),
    allow(dead_code, reason = "only a component has exports")
)]

extern crate alloc;

mod bindings;
mod error;
mod format;
mod instance;
mod lock;
mod marker;
mod owner_record;
mod path;
mod ranges;
mod stale;
mod time;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

#[cfg(target_arch = "wasm32")]
use freestanding as _;

use bindings::api::{
    Error, Grant, Guarantee, Guard, GuestGuard, GuestLockFile, Holder, Milliseconds, Mode,
    OnRelease, Options, Scope, State,
};
use format::MarkerFormat;
use lock::{Attempt, Lock};
use time::{Backoff, Deadline};
use wasip2::filesystem::preopens;

struct Provider;

impl bindings::api::Guest for Provider {
    type LockFile = Handle;
    type Guard = NoGuard;
}

/// One handle of the guest to the lock of a file.
struct Handle {
    path: String,
    number: u64,
    lock: Rc<Lock>,
}

impl GuestLockFile for Handle {
    fn open(path: String) -> Result<bindings::api::LockFile, Error> {
        let options = Options {
            protocol: None,
            on_release: OnRelease::Keep,
        };
        Self::open_with(path, options)
    }

    fn open_with(path: String, options: Options) -> Result<bindings::api::LockFile, Error> {
        instance::refresh();
        let format = MarkerFormat::from_options(&options)?;
        let (mut roots, names): (Vec<_>, Vec<_>) = preopens::get_directories().into_iter().unzip();
        let place = path::resolve(&path, &names)?;
        let root = roots.swap_remove(place.root);
        let lock = Lock::new(root, place, format, stale::after()?)?;
        Ok(bindings::api::LockFile::new(Self {
            lock: instance::join(lock),
            number: instance::number(),
            path,
        }))
    }

    fn path(&self) -> String {
        self.path.clone()
    }

    fn acquire(&self, mode: Mode, timeout: Option<Milliseconds>) -> Result<Grant, Error> {
        if mode == Mode::Shared {
            return Err(Error::NotSupported);
        }
        let deadline = timeout.map(Deadline::after);
        let mut backoff = Backoff::new(time::monotonic());
        loop {
            instance::refresh();
            let owner = instance::owner();
            match self.lock.attempt(self.number, owner, instance::is_ours)? {
                Attempt::Granted => return Ok(self.lock.grant(self.lock.stale_after())),
                Attempt::HeldByUs if timeout != Some(0) => return Err(Error::Deadlock),
                Attempt::HeldByUs | Attempt::HeldByAnother => {}
            }
            let left = deadline.as_ref().map(Deadline::left);
            match left {
                Some(None) if timeout == Some(0) => return Err(Error::WouldBlock),
                Some(None) => return Err(Error::Timeout),
                left => backoff.sleep(left.flatten()),
            }
        }
    }

    fn release(&self) -> Result<(), Error> {
        instance::refresh();
        self.lock.release()
    }

    fn is_locked(&self) -> Result<bool, Error> {
        instance::refresh();
        Ok(self.lock.holder()?.is_some())
    }

    fn state(&self) -> State {
        self.lock.state()
    }

    fn holder(&self) -> Result<Option<Holder>, Error> {
        instance::refresh();
        let holder = self.lock.holder()?;
        Ok(holder.map(|owner| Holder {
            label: None,
            mode: Some(Mode::Exclusive),
            is_self: owner.is_some_and(|owner| instance::is_ours(&owner)),
        }))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee {
            scope: Scope::Host,
            ttl: self.lock.stale_after().map(time::millis),
            fifo: false,
            fencing: false,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.lock.release_if_acquired_by(self.number);
    }
}

/// A guard. None ever exists, because this component does not export the interfaces that create
/// them.
enum NoGuard {}

impl GuestGuard for NoGuard {
    fn grant(&self) -> Grant {
        match *self {}
    }

    fn release(this: Guard) -> Result<(), Error> {
        match *this.get::<Self>() {}
    }
}
