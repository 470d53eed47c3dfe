//! A store for each call, as a plugin host makes it: what a lock costs a call, what hooks cost, and how
//! long calls wait for one another with fair shares and without.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use locket::Engine;
use locket::sandbox::{Directory, Hooks, Limits, Request, Rights, Sandbox, Tenant};
use locket_wasmtime::p2;
use tokio::runtime::Runtime;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Result, Store};

use crate::measure::{Contestant, compare};
use crate::report::{Row, Section, Target, Unit};
use crate::samples::Samples;
use crate::{State, built, link_empty};

/// Counts what guests do, as the hooks of a host with metrics would.
#[derive(Default)]
struct Metrics {
    acquired: AtomicU64,
    released: AtomicU64,
    waited: AtomicU64,
}

impl Hooks for Metrics {
    fn acquired(&self, _: &Request<'_>, waited: Duration) {
        self.acquired.fetch_add(1, Ordering::Relaxed);
        let waited = waited.as_nanos() as u64;
        self.waited.fetch_add(waited, Ordering::Relaxed);
    }

    fn released(&self, _: &Request<'_>, _: Duration) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }
}

/// A host with a component that is instantiated for each call.
struct PluginHost {
    plugin: InstancePre<State>,
    locks: Engine,
    jobs: Directory,
}

impl PluginHost {
    fn new(dir: &Path, fair_shares: bool) -> Result<Self> {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::new(&engine);
        link_empty(&mut linker)?;
        p2::add_to_linker_async(&mut linker)?;
        let plugin = linker.instantiate_pre(&Component::from_file(&engine, built())?)?;
        Ok(Self {
            plugin,
            locks: Engine::builder().fair_shares(fair_shares).build(),
            jobs: Directory::open(dir)?,
        })
    }

    fn tenant(&self, hooks: Option<Arc<dyn Hooks>>) -> Result<Tenant> {
        let settings = Sandbox::builder(&self.locks).limits(Limits::new());
        let mut settings = settings.grant(&self.jobs, "/", Rights::LOCKS)?;
        if let Some(hooks) = hooks {
            settings = settings.hooks(hooks);
        }
        Ok(Tenant::builder(settings).build())
    }

    /// One call in a store of its own: so many pairs with a lock, or none.
    async fn call(&self, tenant: &Tenant, lock: Option<(&str, u32)>) -> Result<()> {
        let state = State {
            locket: tenant.sandbox().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(self.plugin.component().engine(), state);
        let instance = self.plugin.instantiate_async(&mut store).await?;
        if let Some((path, count)) = lock {
            let pairs = instance.get_typed_func::<(&str, u32), ()>(&mut store, "pairs")?;
            return pairs.call_async(&mut store, (path, count)).await;
        }
        let empties = instance.get_typed_func::<(u32,), ()>(&mut store, "empties")?;
        empties.call_async(&mut store, (1,)).await
    }
}

/// What a lock costs a call, and what hooks do.
pub(crate) fn calls(dir: &Path, rounds: usize) -> Result<Section> {
    const BATCH: u32 = 50;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let host = PluginHost::new(dir, false)?;
    let (plain, hooked) = (
        host.tenant(None)?,
        host.tenant(Some(Arc::new(Metrics::default())))?,
    );
    let call = |tenant: &Tenant, lock: Option<(&str, u32)>, count: u32| {
        for _ in 0..count {
            runtime.block_on(host.call(tenant, lock)).unwrap();
        }
    };
    let lock = Some(("/lock", 1));
    let contestants = vec![
        Contestant::batch("a call with a lock", BATCH, |count| {
            call(&plain, lock, count);
        }),
        Contestant::batch("a call without", BATCH, |count| {
            call(&plain, None, count);
        }),
        Contestant::batch("a call with a lock and hooks", BATCH, |count| {
            call(&hooked, lock, count);
        })
        .target(Target::RatioAtMost(1.05)),
    ];
    Ok(compare(
        "Plugin host: a store for each call",
        rounds,
        contestants,
    ))
}

/// What the hooks cost each pair of a guest.
pub(crate) fn hooks(dir: &Path, rounds: usize) -> Result<Section> {
    const PAIRS: u32 = 500;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let host = PluginHost::new(dir, false)?;
    let (plain, hooked) = (
        host.tenant(None)?,
        host.tenant(Some(Arc::new(Metrics::default())))?,
    );
    let pairs = |tenant: &Tenant, count| {
        let lock = Some(("/lock", count));
        runtime.block_on(host.call(tenant, lock)).unwrap();
    };
    let contestants = vec![
        Contestant::batch("acquire + release", PAIRS, |count| pairs(&plain, count)),
        Contestant::batch("the same with hooks", PAIRS, |count| pairs(&hooked, count)),
    ];
    Ok(compare(
        "Plugin host: pairs in one call",
        rounds,
        contestants,
    ))
}

/// How long 200 calls on 3 locks take, of one tenant with many of them and one with few.
pub(crate) fn shares(dir: &Path, rounds: usize) -> Result<Section> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let mut rows = Vec::new();
    for (name, fair) in [("order of arrival", false), ("fair shares", true)] {
        let host = Arc::new(PluginHost::new(dir, fair)?);
        let (mut many, mut few) = (Samples::default(), Samples::default());
        for _ in 0..rounds {
            let (of_many, of_few) = crowd(&runtime, &host)?;
            many.push_round(of_many);
            few.push_round(of_few);
        }
        let unit = Unit::Nanoseconds;
        rows.push(Row::new(
            &format!("{name}: the 180 calls of one tenant"),
            unit,
            many,
        ));
        rows.push(Row::new(&format!("{name}: the 20 of another"), unit, few));
    }
    Ok(Section {
        title: "Plugin host: 200 calls at once on 3 locks".to_owned(),
        rows,
    })
}

/// The times of 180 calls of one tenant, and of 20 calls of another that come after them.
fn crowd(runtime: &Runtime, host: &Arc<PluginHost>) -> Result<(Vec<f64>, Vec<f64>)> {
    let tenants = [host.tenant(None)?, host.tenant(None)?];
    let mut calls = Vec::new();
    for number in 0..200 {
        let tenant = usize::from(number >= 180);
        let (host, settings) = (Arc::clone(host), tenants[tenant].clone());
        let path = ["/lock", "/lock-2", "/lock-3"][number % 3];
        let call = runtime.spawn(async move {
            let start = Instant::now();
            host.call(&settings, Some((path, 50))).await.unwrap();
            start.elapsed().as_nanos() as f64
        });
        calls.push((tenant, call));
    }
    let mut times = [Vec::new(), Vec::new()];
    for (tenant, call) in calls {
        times[tenant].push(runtime.block_on(call).expect("the call does not panic"));
    }
    let [many, few] = times;
    Ok((many, few))
}
