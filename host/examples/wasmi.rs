//! Locks for the guests of a runtime that is not Wasmtime: an adapter for the interpreter wasmi, and
//! the model for others.
//!
//! `cargo run -p locket-host --example wasmi --features sandbox`
//!
//! What an adapter does:
//!
//! - **One [`Sandbox`] for each guest**, in the data of its store: the guest's directories, rights and
//!   limits. A clone of it stays with the host, which ends the guest's waits with that.
//! - **Handles of its own.** A guest gets numbers, and never more than the sandbox's
//!   [`Limits`](locket::sandbox::Limits) allow: a [`GuestLock`] counts by itself. Here a hold belongs to
//!   its lock ([`keep`](locket::sandbox::GuestGuard::keep)). An adapter with handles for guards, waits
//!   or subscriptions counts each of them with [`GuestLock::handle`], and keeps the permit with it.
//! - **The right acquire.** A guest that stands still until its import returns is suspended:
//!   [`GuestLock::acquire`] on its thread, or [`GuestLock::acquire_suspended`] in a task. If other tasks
//!   of the guest continue meanwhile, [`GuestLock::acquire_async`]. A suspended guest is told of a deadlock,
//!   and one that runs may yet release what it waits for.
//! - **Errors as the guest knows them**: kinds, and none of the host's texts.
//! - **Nothing at the end.** When the store is dropped, so are the guest's locks, holds and waits,
//!   however it ended.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use locket::sandbox::{Directory, GuestLock, Rights, Sandbox};
use locket::{Mode, OnRelease};
use wasmi::{Caller, Linker, Module, Store};

/// Increments a number as often as it is told, each time with the lock `/jobs/lock` held. It returns its own count, or an error as a negative number.
const GUEST: &str = r#"(module
  (import "locket" "open" (func $open (param i32 i32) (result i32)))
  (import "locket" "acquire" (func $acquire (param i32 i32 i64) (result i32)))
  (import "locket" "release" (func $release (param i32) (result i32)))
  (import "locket" "close" (func $close (param i32) (result i32)))
  (import "host" "read" (func $read (result i32)))
  (import "host" "write" (func $write (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "/jobs/lock")
  (func (export "count") (param $times i32) (result i32)
    (local $lock i32) (local $error i32)
    (local.set $lock (call $open (i32.const 16) (i32.const 10)))
    (if (i32.lt_s (local.get $lock) (i32.const 0)) (then (return (local.get $lock))))
    (loop $again
      (local.set $error (call $acquire (local.get $lock) (i32.const 1) (i64.const 30000)))
      (if (local.get $error) (then (return (local.get $error))))
      (call $write (i32.add (call $read) (i32.const 1)))
      (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
      (local.set $error (call $release (local.get $lock)))
      (if (local.get $error) (then (return (local.get $error))))
      (br_if $again (i32.lt_u (i32.load (i32.const 0)) (local.get $times))))
    (local.set $error (call $close (local.get $lock)))
    (if (local.get $error) (then (return (local.get $error))))
    (i32.load (i32.const 0)))
  (func (export "hold-and-trap")
    (drop (call $acquire (call $open (i32.const 16) (i32.const 10)) (i32.const 1) (i64.const -1)))
    unreachable)
  (func (export "wait") (result i32)
    (call $acquire (call $open (i32.const 16) (i32.const 10)) (i32.const 1) (i64.const -1)))
  (func (export "stray") (result i32)
    (call $open (i32.const 65530) (i32.const 10))))"#;

/// What the store of a guest has in it.
struct Guest {
    sandbox: Sandbox,
    locks: HashMap<i32, GuestLock>,
    next: i32,
    counter: PathBuf,
}

/// The errors of this interface: negative numbers, in the spirit of `errno`.
mod errno {
    pub(crate) const OTHER: i32 = -1;
    pub(crate) const BAD_HANDLE: i32 = -2;
    pub(crate) const BAD_POINTER: i32 = -3;
    pub(crate) const BAD_PATH: i32 = -4;
    pub(crate) const DENIED: i32 = -5;
    pub(crate) const NOT_FOUND: i32 = -6;
    pub(crate) const LIMIT: i32 = -7;
    pub(crate) const WOULD_BLOCK: i32 = -8;
    pub(crate) const TIMEOUT: i32 = -9;
    pub(crate) const CANCELED: i32 = -10;
    pub(crate) const DEADLOCK: i32 = -11;
    pub(crate) const LOST: i32 = -12;
    pub(crate) const NOT_HELD: i32 = -13;
}

/// The text of an error names things of the host, so the guest gets the kind alone.
fn number(error: &locket::Error) -> i32 {
    let kinds = [
        (error.is_invalid_path(), errno::BAD_PATH),
        (error.is_denied(), errno::DENIED),
        (error.is_not_found(), errno::NOT_FOUND),
        (error.is_limit_exceeded(), errno::LIMIT),
        (error.is_would_block(), errno::WOULD_BLOCK),
        (error.is_timeout(), errno::TIMEOUT),
        (error.is_canceled(), errno::CANCELED),
        (error.is_deadlock(), errno::DEADLOCK),
        (error.is_lost(), errno::LOST),
        (
            error.is_not_locked() || error.is_not_owner(),
            errno::NOT_HELD,
        ),
    ];
    let found = kinds.iter().find(|(is_it, _)| *is_it);
    found.map_or(errno::OTHER, |(_, number)| *number)
}

fn answer(result: locket::Result<()>) -> i32 {
    result.map_or_else(|error| number(&error), |()| 0)
}

/// A string in the memory of the guest. Its pointer and length may be anything.
fn text(caller: &Caller<'_, Guest>, start: u32, length: u32) -> Option<String> {
    let memory = caller.get_export("memory")?.into_memory()?;
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let bytes = memory.data(caller).get(start..end)?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn open(mut caller: Caller<'_, Guest>, start: u32, length: u32) -> i32 {
    let Some(path) = text(&caller, start, length) else {
        return errno::BAD_POINTER;
    };
    let guest = caller.data_mut();
    match guest.sandbox.open(&path, None, OnRelease::Keep) {
        Err(error) => number(&error),
        Ok(lock) => {
            // Numbers are not used again, so an old one does not become that of another lock.
            let Some(next) = guest.next.checked_add(1) else {
                return errno::LIMIT;
            };
            guest.next = next;
            guest.locks.insert(next, lock);
            next
        }
    }
}

/// `timeout` is in milliseconds; a negative one is none. The guest stands still meanwhile.
fn acquire(caller: Caller<'_, Guest>, lock: i32, exclusive: i32, timeout: i64) -> i32 {
    let Some(lock) = caller.data().locks.get(&lock) else {
        return errno::BAD_HANDLE;
    };
    let mode = match exclusive {
        0 => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
    answer(lock.acquire(mode, timeout).map(|hold| hold.keep()))
}

fn release(caller: Caller<'_, Guest>, lock: i32) -> i32 {
    let lock = caller.data().locks.get(&lock);
    lock.map_or(errno::BAD_HANDLE, |lock| answer(lock.release()))
}

/// Releases what was acquired through the lock, too.
fn close(mut caller: Caller<'_, Guest>, lock: i32) -> i32 {
    let closed = caller.data_mut().locks.remove(&lock);
    closed.map_or(errno::BAD_HANDLE, |_| 0)
}

fn linker(engine: &wasmi::Engine) -> Result<Linker<Guest>, wasmi::Error> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("locket", "open", open)?;
    linker.func_wrap("locket", "acquire", acquire)?;
    linker.func_wrap("locket", "release", release)?;
    linker.func_wrap("locket", "close", close)?;
    // What WASI has for files is beside the point here.
    linker.func_wrap("host", "read", |caller: Caller<'_, Guest>| {
        count(&caller.data().counter).map_err(trap)
    })?;
    linker.func_wrap("host", "write", |caller: Caller<'_, Guest>, count: i32| {
        let written = fs::write(&caller.data().counter, count.to_string());
        written.map_err(trap)
    })?;
    Ok(linker)
}

fn trap(error: std::io::Error) -> wasmi::Error {
    wasmi::Error::new(error.to_string())
}

fn count(path: &Path) -> std::io::Result<i32> {
    let text = fs::read_to_string(path)?;
    Ok(text.parse().unwrap_or(0))
}

/// Calls a function of a new instance. The store, and all that the guest has, are gone afterwards.
fn call<P: wasmi::WasmParams, R: wasmi::WasmResults>(
    module: &Module,
    sandbox: &Sandbox,
    counter: &Path,
    (name, arguments): (&str, P),
) -> Result<R, wasmi::Error> {
    let guest = Guest {
        sandbox: sandbox.clone(),
        locks: HashMap::new(),
        next: 0,
        counter: counter.to_owned(),
    };
    let mut store = Store::new(module.engine(), guest);
    let instance = linker(module.engine())?.instantiate_and_start(&mut store, module)?;
    let function = instance.get_typed_func::<P, R>(&store, name)?;
    function.call(&mut store, arguments)
}

const TIMES: i32 = 200;

/// The variable that tells another process where to count.
const COUNT_IN: &str = "LOCKET_COUNT_IN";

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn count_natively(engine: &locket::Engine, dir: &Path) -> Outcome {
    let (lock, counter) = (engine.open(dir.join("lock"))?, dir.join("counter"));
    for _ in 0..TIMES {
        lock.with_lock(None, || {
            count(&counter).and_then(|count| fs::write(&counter, (count + 1).to_string()))
        })??;
    }
    Ok(())
}

pub(crate) fn main() -> Outcome {
    match env::var_os(COUNT_IN) {
        Some(dir) => count_natively(&locket::Engine::new(), Path::new(&dir)),
        None => run(Command::new(env::current_exe()?)),
    }
}

/// `again` is this program again, as another process.
pub(crate) fn run(mut again: Command) -> Outcome {
    let dir = tempfile::tempdir()?;
    let counter = dir.path().join("counter");
    fs::write(&counter, "0")?;
    let module = Module::new(&wasmi::Engine::default(), GUEST)?;
    let engine = locket::Engine::new();
    let jobs = Directory::open(dir.path())?;
    let guest = |tag: &str| -> std::io::Result<Sandbox> {
        let guest = Sandbox::builder(&engine).label("plugin").tag(tag);
        Ok(guest.grant(&jobs, "/jobs", Rights::LOCKS)?.build())
    };

    // Two guests, this program and another process take turns.
    let mut process = again.env(COUNT_IN, dir.path()).spawn()?;
    let (one, other) = (guest("one")?, guest("other")?);
    let native = engine.open(dir.path().join("lock"))?;
    thread::scope(|scope| -> Outcome {
        let guests = [&one, &other].map(|guest| {
            scope.spawn(|| call::<_, i32>(&module, guest, &counter, ("count", TIMES)))
        });
        count_natively(&engine, dir.path())?;
        for guest in guests {
            let counted = guest.join().map_err(|_| "a guest's thread panicked")??;
            println!("a guest counted {counted}");
            assert_eq!(counted, TIMES);
        }
        Ok(())
    })?;
    assert!(process.wait()?.success());
    let total = count(&counter)?;
    println!("the file says {total}, of {}", 4 * TIMES);
    assert_eq!(total, 4 * TIMES);

    // A guest that ends with a trap leaves nothing behind.
    let trapped = call::<_, ()>(&module, &one, &counter, ("hold-and-trap", ()));
    println!("a guest that held the lock: {}", trapped.unwrap_err());
    assert!(!native.is_locked()? && one.usage().held == 0);

    // The host ends the wait of a guest, from another thread.
    let held = native.acquire(Mode::Exclusive, None)?;
    let handle = other.clone();
    let ended = thread::scope(|scope| {
        let waits = scope.spawn(|| call::<_, i32>(&module, &other, &counter, ("wait", ())));
        while handle.waits().is_empty() && !waits.is_finished() {
            thread::yield_now();
        }
        handle.cancel_waits();
        waits.join().map_err(|_| "a guest's thread panicked")
    })??;
    println!("a guest whose wait the host ended got {ended}");
    assert_eq!(ended, errno::CANCELED);
    held.release()?;

    // A pointer that leads out of the guest's memory is an error like others.
    let stray = call::<_, i32>(&module, &one, &counter, ("stray", ()))?;
    assert_eq!(stray, errno::BAD_POINTER);
    Ok(())
}
