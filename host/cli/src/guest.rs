//! Command components: how `locket run` and `locket demo` load and run one.

use std::path::Path;
use std::time::Duration;

use locket_wasmtime::epochs::{self, Between};
use locket_wasmtime::{LocketCtx, LocketCtxView, LocketView};
use wasmtime::component::{Accessor, Component, Linker, ResourceTable};
use wasmtime::{Cache, Config, Engine, Result, Store, bail};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView, p2, p3};

use crate::exit::{self, ExitError};
use crate::output::shown_path;

/// Turns a Wasmtime error into one of this tool.
pub(crate) fn into_anyhow(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into())
}

/// The data of one instance.
pub(crate) struct State {
    pub(crate) wasi: WasiCtx,
    pub(crate) locket: LocketCtx,
    table: ResourceTable,
}

impl State {
    pub(crate) fn new(wasi: WasiCtx, locket: LocketCtx) -> Self {
        Self {
            wasi,
            locket,
            table: ResourceTable::new(),
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
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

/// The cache of compiled components, which is that of `wasmtime run`. `None` if it is unavailable.
fn cache() -> Option<Cache> {
    let cache = Cache::from_file(None);
    cache
        .inspect_err(|e| tracing::debug!("compiled components are not cached: {e:#}"))
        .ok()
}

/// How often an instance with limited time is looked at.
const TICK: Duration = Duration::from_millis(10);

/// A component that can be run any number of times, including concurrently.
pub(crate) struct Program {
    engine: Engine,
    /// For how many ticks an instance may run.
    ticks: Option<u64>,
    command: Command,
}

enum Command {
    P2(p2::bindings::CommandPre<State>),
    P3(p3::bindings::CommandPre<State>),
}

impl Program {
    /// Reads and compiles a component, whose instances may run for so long.
    pub(crate) fn from_file(path: &Path, max_time: Option<Duration>) -> anyhow::Result<Self> {
        let name = shown_path(path);
        let bytes = std::fs::read(path).map_err(|e| {
            ExitError::new(
                exit::NO_INPUT,
                format_args!("cannot read `{name}`: {e}; check the path"),
            )
        })?;
        Self::from_bytes(&bytes, max_time).map_err(|e| {
            ExitError::new(exit::DATA, format_args!("cannot run `{name}`: {e:#}")).into()
        })
    }

    /// Compiles a component, whose instances may run for so long.
    pub(crate) fn from_bytes(bytes: &[u8], max_time: Option<Duration>) -> Result<Self> {
        // Version 1 means a core module, whatever follows.
        if bytes.starts_with(b"\0asm\x01\0\0\0") {
            bail!(
                "it is a core module, not a component; build it for wasm32-wasip2, \
                 or make a component of it with `locket componentize`"
            );
        }
        if !bytes.starts_with(b"\0asm") {
            bail!("it is not WebAssembly; pass a component in binary form (.wasm)");
        }
        let mut config = Config::new();
        config.cache(cache()).epoch_interruption(max_time.is_some());
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, bytes)?;
        let mut linker = Linker::new(&engine);
        p2::add_to_linker_async(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        locket_wasmtime::p2::add_to_linker_async(&mut linker)?;
        locket_wasmtime::p3::add_to_linker(&mut linker)?;
        // Has no effect without the right to break locks.
        locket_wasmtime::admin::add_to_linker(&mut linker)?;

        let exports = |version: &str| {
            let name = format!("wasi:cli/run@{version}");
            component
                .component_type()
                .exports(&engine)
                .any(|(export, _)| export.starts_with(&name))
        };
        let (is_p2, is_p3) = (exports("0.2."), exports("0.3."));
        if !is_p2 && !is_p3 {
            bail!(
                "it does not export `wasi:cli/run`, so it is not a program; \
                 build it as a program (with a `main`), not as a library"
            );
        }
        let pre = linker.instantiate_pre(&component).map_err(|e| {
            e.context("`locket run` provides only WASI 0.2, WASI 0.3 and `locket:lock`")
        })?;
        // Prefer WASI 0.3, as `wasmtime run` does.
        let command = if is_p3 {
            Command::P3(p3::bindings::CommandPre::new(pre)?)
        } else {
            Command::P2(p2::bindings::CommandPre::new(pre)?)
        };
        if max_time.is_some() {
            epochs::advance(&engine, TICK)?;
        }
        let ticks = max_time
            .map(|time| u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX));
        Ok(Self {
            engine,
            ticks,
            command,
        })
    }

    /// Runs one instance until it ends and returns its exit code. An error is a trap.
    pub(crate) async fn run(&self, state: State) -> Result<i32> {
        let mut store = Store::new(&self.engine, state);
        if let Some(ticks) = self.ticks {
            epochs::limit_running_time(&mut store, ticks, Between::Yield);
        }
        match self.call(&mut store).await {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            Err(e) => match e.downcast_ref::<I32Exit>() {
                Some(&I32Exit(code)) => Ok(code),
                None => Err(e),
            },
        }
    }

    async fn call(&self, store: &mut Store<State>) -> Result<Result<(), ()>> {
        match &self.command {
            Command::P2(pre) => {
                let command = pre.instantiate_async(&mut *store).await?;
                command.wasi_cli_run().call_run(store).await
            }
            Command::P3(pre) => {
                let command = pre.instantiate_async(&mut *store).await?;
                let run =
                    async |store: &Accessor<State>| command.wasi_cli_run().call_run(store).await;
                store.run_concurrent(run).await?
            }
        }
    }
}
