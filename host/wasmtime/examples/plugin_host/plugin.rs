//! What a plugin sees of its host: the interface of its world, and the data of its store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use locket::Mode;
use locket::sandbox::Claim;
use locket_wasmtime::{LockFile, LocketCtx, LocketCtxView, LocketView};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use self::bindings::example::plugins::ledger;

pub(crate) use self::bindings::PluginPre;

mod bindings {
    // The types of `locket:lock` are those of the adapter, so a `borrow<lock-file>` of this world is
    // a `Resource<LockFile>`.
    wasmtime::component::bindgen!({
        path: ["wit", "../../tests/guests/plugin/wit"],
        world: "example:plugins/plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "locket:lock": ::locket_wasmtime::bindings },
    });
}

/// The data of a store. A plugin that uses WASI needs a `WasiCtx` here, too.
pub(crate) struct State {
    locket: LocketCtx,
    table: ResourceTable,
    ledger: Arc<Ledger>,
}

impl State {
    pub(crate) fn new(locket: LocketCtx, ledger: &Arc<Ledger>) -> Self {
        Self {
            locket,
            table: ResourceTable::new(),
            ledger: Arc::clone(ledger),
        }
    }
}

impl LocketView for State {
    fn locket(&mut self) -> LocketCtxView<'_> {
        LocketCtxView {
            ctx: &mut self.locket,
            table: &mut self.table,
        }
    }
}

/// Links what the plugin imports. Interface by interface: the `add_to_linker` of the whole world
/// would expect that this host implements the locks, too.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    locket_wasmtime::p2::add_to_linker_async(linker)?;
    ledger::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// The numbers that locks protect, by the path of the lock.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<BTreeMap<String, u64>>);

impl Ledger {
    fn numbers(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All numbers.
    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.numbers().clone()
    }

    /// Does something with the number of a lock that a guest holds, at least in this mode. The mutex
    /// is locked before the holds are looked at. So when a lock is taken away from a guest, whatever
    /// that still does comes before what the next holder does, or is refused.
    fn with<R>(
        &self,
        guest: &LocketCtx,
        (lock, mode): (&LockFile, Mode),
        act: impl FnOnce(&mut u64) -> R,
    ) -> Result<R, ()> {
        let mut numbers = self.numbers();
        let suffices = |hold: &Claim| {
            hold.path == lock.path() && (hold.mode == mode || hold.mode == Mode::Exclusive)
        };
        if !guest.holds().iter().any(suffices) {
            return Err(());
        }
        Ok(act(numbers.entry(lock.path().to_owned()).or_default()))
    }
}

impl ledger::Host for State {
    /// A function that takes long for a guest which holds a lock ends when that is lost.
    async fn read(
        &mut self,
        lock: Resource<LockFile>,
        milliseconds: u32,
    ) -> Result<Result<u64, ()>> {
        let lock = self.table.get(&lock)?;
        let lost = lock.lost()?;
        tokio::select! {
            _ = lost.wait() => Ok(Err(())),
            () = tokio::time::sleep(Duration::from_millis(milliseconds.into())) => {
                let held = (lock, Mode::Shared);
                Ok(self.ledger.with(&self.locket, held, |number| *number))
            }
        }
    }

    async fn write(&mut self, lock: Resource<LockFile>, number: u64) -> Result<Result<(), ()>> {
        let lock = self.table.get(&lock)?;
        let held = (lock, Mode::Exclusive);
        Ok(self.ledger.with(&self.locket, held, |old| *old = number))
    }
}
