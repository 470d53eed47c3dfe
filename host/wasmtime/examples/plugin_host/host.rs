//! The host: one plugin, called for many tenants.
//!
//! Each call has a store of its own, so however it ends, its locks are released.
//! What is common to the calls of a tenant is in its [`Customer`].
//!
//! **A waiting call keeps its instance.** With a pool of instances, the queue for one lock would
//! soon take all of them, and calls of other tenants would be refused. So a call takes a turn of its
//! tenant before it gets an instance, and the pool has one for each turn. For the same reason the
//! turns on a lock go round among the tenants, and not in order of arrival.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use locket::Engine;
use locket::sandbox::Directory;
use locket_wasmtime::LocketCtx;
use locket_wasmtime::bindings::api;
use locket_wasmtime::epochs::{self, Between};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::component::{Component, Linker};
use wasmtime::error::Context as _;
use wasmtime::{Config as WasmConfig, PoolingAllocationConfig, Result, Store};

use super::calls::{Call, Calls, Entry};
use super::config::Config;
use super::plugin::{self, Ledger, PluginPre, State};
use super::tenant::Customer;

/// How often a running guest is looked at.
const TICK: Duration = Duration::from_millis(10);

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The plugin added to the number of the lock.
    Added(u64),
    /// The plugin failed with an error of its lock.
    Failed(api::Error),
    /// It lasted for too long, in a wait or otherwise.
    TimedOut,
    /// It trapped, or used up its running time.
    Killed(wasmtime::Error),
    /// The host shuts down.
    Refused,
}

/// A plugin host.
pub(crate) struct Host {
    config: Config,
    wasm: wasmtime::Engine,
    linker: Linker<State>,
    /// The only engine of the process: that is what makes it see all waits.
    pub(crate) locks: Engine,
    pub(crate) tenants: BTreeMap<String, Customer>,
    pub(crate) calls: Calls,
    pub(crate) ledger: Arc<Ledger>,
    newest: RwLock<Newest>,
}

/// The plugin that new calls are calls of, linked and ready to be instantiated.
struct Newest {
    version: u64,
    plugin: PluginPre<State>,
}

impl Host {
    /// A host whose tenants share the directories below `data`.
    pub(crate) fn new(config: &Config, data: &Path) -> Result<Self> {
        let locks = Engine::builder().fair_shares(true).build();
        let mut directories = BTreeMap::new();
        for (name, path) in &config.directories {
            let path = data.join(path);
            let open = std::fs::create_dir_all(&path).and_then(|()| Directory::open(&path));
            let open = open.with_context(|| format!("cannot open {}", path.display()))?;
            directories.insert(name.clone(), open);
        }
        let mut tenants = BTreeMap::new();
        for (name, tenant) in &config.tenants {
            let customer = Customer::new(name, tenant, &directories, &locks)?;
            tenants.insert(name.clone(), customer);
        }

        let turns = config.tenants.values().map(|tenant| tenant.calls).sum();
        let mut wasm = WasmConfig::new();
        wasm.epoch_interruption(true)
            .allocation_strategy(pool(turns));
        let wasm = wasmtime::Engine::new(&wasm)?;
        epochs::advance(&wasm, TICK)?;
        let mut linker = Linker::new(&wasm);
        plugin::link(&mut linker)?;
        let first = Newest {
            version: 1,
            plugin: compile(&linker, &config.plugin)?,
        };
        Ok(Self {
            config: config.clone(),
            wasm,
            linker,
            locks,
            tenants,
            calls: Calls::default(),
            ledger: Arc::default(),
            newest: RwLock::new(first),
        })
    }

    /// Calls the plugin for a tenant: see its interface for what it does.
    ///
    /// # Panics
    ///
    /// If there is no such tenant.
    pub(crate) async fn call(&self, tenant: &str, path: &str, milliseconds: u32) -> Answer {
        let customer = &self.tenants[tenant];
        let Ok(_turn) = customer.turns.acquire().await else {
            return Answer::Refused;
        };
        let Some((plugin, guest, _entry)) = self.begin(tenant, customer) else {
            return Answer::Refused;
        };
        // After the entry, so that the store is dropped before that, with all locks of the call.
        let mut store = Store::new(&self.wasm, State::new(guest, &self.ledger));
        let ticks = self.config.running_time.as_millis() / TICK.as_millis();
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        epochs::limit_running_time(&mut store, ticks, Between::Yield);
        let call = async {
            let plugin = plugin.instantiate_async(&mut store).await?;
            plugin.call_add(&mut store, path, milliseconds).await
        };
        // Dropping the call ends a wait in it, and dropping the store releases what it holds.
        match timeout(self.config.longest_call, call).await {
            Ok(Ok(Ok(number))) => Answer::Added(number),
            Ok(Ok(Err(error))) => Answer::Failed(error),
            Ok(Err(error)) => Answer::Killed(error),
            Err(_) => Answer::TimedOut,
        }
    }

    /// Lists a call, as one of the plugin that is the newest at that moment: who replaces the plugin,
    /// or shuts down, then knows of every call that began before. None after a shutdown.
    fn begin(
        &self,
        tenant: &str,
        customer: &Customer,
    ) -> Option<(PluginPre<State>, LocketCtx, Entry<'_>)> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        if customer.turns.is_closed() {
            return None;
        }
        let number = self.calls.number();
        let tag = format!("call {number}");
        let guest = customer.locks.sandbox().tag(tag).build();
        let call = Call {
            tenant: tenant.to_owned(),
            version: newest.version,
            since: Instant::now(),
            guest: guest.clone(),
        };
        let entry = self.calls.enter(number, call);
        Some((newest.plugin.clone(), guest, entry))
    }

    /// Reads the plugin again, and returns its version. Calls that get an instance from now on are
    /// calls of the new one.
    pub(crate) fn load(&self) -> Result<u64> {
        let compiled = compile(&self.linker, &self.config.plugin)?;
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        newest.plugin = compiled;
        newest.version += 1;
        Ok(newest.version)
    }

    /// Waits for the end of the calls of plugins before `version`. Those that still run after a
    /// time of grace lose their locks, so that the new plugin does not wait for them.
    pub(crate) async fn retire(&self, version: u64) {
        self.finish(|call| call.version < version).await;
    }

    /// Ends the host: every wait for a lock, and every call that has no instance yet, at once, and
    /// the other calls after a time of grace.
    pub(crate) async fn shut_down(&self) {
        {
            let _none_begins = self.newest.write().unwrap_or_else(PoisonError::into_inner);
            let turns = self.tenants.values().map(|customer| &customer.turns);
            turns.for_each(Semaphore::close);
        }
        self.locks.shut_down();
        self.finish(|_| true).await;
    }

    /// Waits for the end of some calls, without their locks after a time of grace.
    async fn finish(&self, concerns: impl Fn(&Call) -> bool) {
        let end = self.calls.end(&concerns);
        if timeout(self.config.grace, end).await.is_ok() {
            return;
        }
        for call in self.calls.list().into_values().filter(&concerns) {
            self.tenants[&call.tenant].expel(&call.guest);
        }
        // Whatever a guest does without locks is limited by its running time, and by its timeout.
        self.calls.end(&concerns).await;
    }
}

fn compile(linker: &Linker<State>, plugin: &Path) -> Result<PluginPre<State>> {
    let component = Component::from_file(linker.engine(), plugin)?;
    PluginPre::new(linker.instantiate_pre(&component)?)
}

/// A pool with room for so many calls at a time.
fn pool(calls: u32) -> PoolingAllocationConfig {
    // A component can consist of several modules and tables.
    const PARTS: u32 = 4;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(PARTS * calls)
        .total_memories(calls)
        .total_tables(PARTS * calls)
        .total_stacks(calls);
    pool
}
