//! Hosts a test guest.

use locket_tests::harness::{self, Host};
use locket_wasmtime::{LocketCtx, LocketCtxView, LocketView};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Cache, CacheConfig, Config, Engine, Result, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, p2, p3};

use crate::folder;
use crate::peer::{self, Peer};

struct State {
    guest: harness::State,
    counter: Counter,
    peer: Peer,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.guest.ctx()
    }
}

impl LocketView for State {
    fn locket(&mut self) -> LocketCtxView<'_> {
        self.guest.locket()
    }
}

/// The number that the guests count on, in the file `counter` of the host's directory.
struct Counter {
    path: PathBuf,
    /// When the guest last finished with it, or started.
    idle_since: Instant,
    longest_wait: Duration,
}

impl Counter {
    fn read(&mut self) -> Result<u32> {
        self.longest_wait = self.longest_wait.max(self.idle_since.elapsed());
        Ok(fs::read_to_string(&self.path)?.trim().parse()?)
    }

    fn write(&mut self, value: u32) -> Result<()> {
        fs::write(&self.path, value.to_string())?;
        self.idle_since = Instant::now();
        Ok(())
    }
}

/// The runtime of this process. It keeps what it compiles.
fn runtime() -> &'static Engine {
    static RUNTIME: LazyLock<Engine> = LazyLock::new(|| {
        let mut cache = CacheConfig::new();
        cache.with_directory(folder().join("compiled"));
        let cache = Cache::new(cache).expect("the folder can be written");
        let mut config = Config::new();
        config.cache(Some(cache));
        Engine::new(&config).expect("the configuration is valid")
    });
    &RUNTIME
}

/// Compiles a component, unless that was done before.
///
/// # Errors
///
/// If it is no component.
pub fn component(path: &Path) -> Result<Component> {
    Component::from_file(runtime(), path)
}

/// Like [`component`], for one that is not in a file.
///
/// # Errors
///
/// If it is no component.
pub fn component_of(bytes: &[u8]) -> Result<Component> {
    Component::new(runtime(), bytes)
}

/// WASI and the counter.
fn plain_linker() -> &'static Linker<State> {
    static LINKER: OnceLock<Linker<State>> = OnceLock::new();
    LINKER.get_or_init(|| {
        let mut linker = Linker::<State>::new(runtime());
        let added = p2::add_to_linker_async(&mut linker)
            .and_then(|()| p3::add_to_linker(&mut linker))
            .and_then(|()| peer::add_to_linker(&mut linker, |state| &mut state.peer))
            .and_then(|()| {
                let mut counter = linker.instance("locket:test/counter@0.1.0")?;
                counter.func_wrap("read", |mut store, ()| {
                    Ok((store.data_mut().counter.read()?,))
                })?;
                counter.func_wrap("write", |mut store, (value,)| {
                    store.data_mut().counter.write(value)
                })
            });
        added.expect("the interfaces do not collide");
        linker
    })
}

/// The same with locks.
fn linker() -> &'static Linker<State> {
    static LINKER: OnceLock<Linker<State>> = OnceLock::new();
    LINKER.get_or_init(|| {
        let mut linker = plain_linker().clone();
        let added = locket_wasmtime::p2::add_to_linker_async(&mut linker)
            .and_then(|()| locket_wasmtime::p3::add_to_linker(&mut linker))
            .and_then(|()| locket_wasmtime::admin::add_to_linker(&mut linker));
        added.expect("the interfaces do not collide");
        linker
    })
}

/// A guest that carries out commands. The directory of the host is `/locks`, with the counter in the file
/// `counter`.
pub struct Guest {
    store: Store<State>,
    run: TypedFunc<(String,), (String,)>,
}

impl Guest {
    /// Starts a guest with everything granted.
    ///
    /// # Errors
    ///
    /// If it imports something else, or does not export `run`.
    pub async fn start(component: &Component, host: &Host) -> Result<Self> {
        Self::start_with(component, host, host.ctx().build()).await
    }

    /// Starts a guest with other grants or limits.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub async fn start_with(component: &Component, host: &Host, locket: LocketCtx) -> Result<Self> {
        Self::instantiate(component, host, linker(), locket, &[]).await
    }

    /// Starts a guest on a host that has WASI and no locks, in an environment.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub async fn start_without_locks(
        component: &Component,
        host: &Host,
        environment: &[(&str, &str)],
    ) -> wasmtime::Result<Self> {
        let nothing = LocketCtx::builder(&host.locks).build();
        Self::instantiate(component, host, plain_linker(), nothing, environment).await
    }

    async fn instantiate(
        component: &Component,
        host: &Host,
        linker: &Linker<State>,
        locket: LocketCtx,
        environment: &[(&str, &str)],
    ) -> wasmtime::Result<Self> {
        let wasi = WasiCtx::builder()
            .inherit_stderr()
            .envs(environment)
            .preopened_dir(host.dir.path(), "/locks", FsPerms::ReadWrite)?
            .build();
        let counter = Counter {
            path: host.path("counter"),
            idle_since: Instant::now(),
            longest_wait: Duration::ZERO,
        };
        let state = State {
            guest: harness::State::new(wasi, locket),
            counter,
            peer: Peer::new(host),
        };
        let mut store = Store::new(runtime(), state);
        let instance = linker.instantiate_async(&mut store, component).await?;
        let run = instance.get_typed_func(&mut store, "run")?;
        Ok(Self { store, run })
    }

    /// Gives a command, and returns the reply.
    ///
    /// # Errors
    ///
    /// If the guest traps.
    pub async fn run(&mut self, command: &str) -> Result<String> {
        self.store.data_mut().counter.idle_since = Instant::now();
        let (reply,) = self
            .run
            .call_async(&mut self.store, (command.into(),))
            .await?;
        Ok(reply)
    }

    /// Gives commands, each with the reply that is expected within a time.
    ///
    /// # Errors
    ///
    /// If the guest traps.
    ///
    /// # Panics
    ///
    /// If a reply differs, or is late.
    #[track_caller]
    pub fn dialogue<'a, E: From<wasmtime::Error>>(
        &'a mut self,
        lines: &'a [(&'a str, &'a str)],
        limit: Duration,
    ) -> impl Future<Output = Result<(), E>> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            for (command, expected) in lines {
                let reply = timeout(limit, self.run(command)).await;
                let reply = reply.unwrap_or_else(|_| panic!("{caller}: {command:?} waits"))?;
                assert_eq!(reply, *expected, "{caller}: {command:?}");
            }
            Ok(())
        }
    }

    /// How many resources of the host the guest has.
    pub fn resources(&mut self) -> usize {
        self.store.data_mut().guest.resources()
    }

    /// The longest time from a command, or from a write of the counter, to the next read of it.
    pub fn longest_wait(&self) -> Duration {
        self.store.data().counter.longest_wait
    }
}
