//! Guests under the command of a test: a host with a directory of lock files, stores, and
//! components that do what they are told line by line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::Duration;

use locket::sandbox::Rights;
use locket::{Engine, LockFile};
use locket_wasmtime::{LocketCtx, LocketCtxBuilder, LocketCtxView, LocketView};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wasmtime::component::{Accessor, Component, Linker, ResourceTable};
use wasmtime::{Cache, CacheConfig, Config, Store};
use wasmtime_wasi::cli::{AsyncStdinStream, AsyncStdoutStream};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2, p3};

use crate::guests;

pub use locket_test_support::proc_locks::{descriptors_below as descriptors, engine_threads};
pub use locket_test_support::process::Foreign;
pub use locket_test_support::waits::{AT_ONCE, QUIESCENT, STUCK, eventually, waiters};

/// The data of a store.
pub struct State {
    wasi: WasiCtx,
    locket: LocketCtx,
    table: ResourceTable,
}

impl State {
    /// The data of a guest with WASI and locks.
    pub fn new(wasi: WasiCtx, locket: LocketCtx) -> Self {
        Self {
            wasi,
            locket,
            table: ResourceTable::new(),
        }
    }

    /// Replaces what the guest may lock.
    pub fn set_locket(&mut self, locket: LocketCtx) {
        self.locket = locket;
    }

    /// How many resources there are.
    pub fn resources(&mut self) -> usize {
        self.table.iter_mut().count()
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

/// The runtime of this process. Its epoch advances only if a test says so.
///
/// # Panics
///
/// If it cannot be made.
pub fn runtime() -> &'static wasmtime::Engine {
    static RUNTIME: LazyLock<wasmtime::Engine> = LazyLock::new(|| {
        let mut config = Config::new();
        config.epoch_interruption(true).cache(Some(cache()));
        wasmtime::Engine::new(&config).expect("the configuration is valid")
    });
    &RUNTIME
}

/// What is compiled, in the target folder: each test is a process of its own, and compiling takes
/// it longer than all the rest.
fn cache() -> Cache {
    let test = std::env::current_exe().expect("this test has a path");
    let folder = test.parent().expect("this test is in a folder");
    let mut config = CacheConfig::new();
    config.with_directory(folder.join("compiled-guests"));
    Cache::new(config).expect("the target folder can be written")
}

/// The component of the guest `name`, compiled once.
pub fn component(name: &str) -> Component {
    static COMPONENTS: LazyLock<Mutex<HashMap<String, Component>>> = LazyLock::new(Mutex::default);
    let mut components = COMPONENTS.lock().unwrap();
    let compile = || Component::from_file(runtime(), guests::path(name)).expect("a guest");
    components
        .entry(name.into())
        .or_insert_with(compile)
        .clone()
}

/// WASI of both generations, and all of `locket:lock`, for calls with `async`.
pub fn linker() -> &'static Linker<State> {
    static LINKER: OnceLock<Linker<State>> = OnceLock::new();
    LINKER.get_or_init(|| {
        let mut linker = Linker::new(runtime());
        let added = p2::add_to_linker_async(&mut linker)
            .and_then(|()| p3::add_to_linker(&mut linker))
            .and_then(|()| locket_wasmtime::p2::add_to_linker_async(&mut linker))
            .and_then(|()| locket_wasmtime::p3::add_to_linker(&mut linker))
            .and_then(|()| locket_wasmtime::admin::add_to_linker(&mut linker));
        added.expect("the interfaces do not collide");
        linker
    })
}

/// A store whose guest finds `dir` as `/locks`, and may write everything in it.
pub fn store_in(dir: &Path, locket: LocketCtx, wasi: &mut WasiCtxBuilder) -> Store<State> {
    wasi.preopened_dir(dir, "/locks", FsPerms::ReadWrite)
        .expect("a directory");
    let mut store = Store::new(runtime(), State::new(wasi.build(), locket));
    store.set_epoch_deadline(1 << 60);
    store
}

/// A directory of lock files, and the engine that keeps them.
pub struct Host {
    /// The directory; guests know it as `/locks`.
    pub dir: tempfile::TempDir,
    /// The engine that guests share.
    pub locks: Engine,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            locks: Engine::new(),
        }
    }
}

impl Host {
    /// A host with an empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The lock of a file, for this process, in the engine of the guests.
    pub fn lock(&self, name: &str) -> LockFile {
        self.locks
            .open(self.path(name))
            .expect("the file can be opened")
    }

    /// The lock of a file in an engine of its own: to the guests, another process.
    pub fn foreign(&self, name: &str) -> LockFile {
        Engine::new()
            .open(self.path(name))
            .expect("the file can be opened")
    }

    /// The settings of a guest to which the directory is granted.
    pub fn ctx(&self) -> LocketCtxBuilder {
        let ctx = LocketCtx::builder(&self.locks);
        ctx.grant_dir(&self.dir, "/locks", Rights::READ_WRITE)
            .expect("the directory is there")
    }

    /// A store whose guest may lock and write everything in the directory.
    pub fn store(&self) -> Store<State> {
        self.store_with(self.ctx().build(), WasiCtx::builder().inherit_stderr())
    }

    /// A store with a context of the test's own.
    pub fn store_with(&self, locket: LocketCtx, wasi: &mut WasiCtxBuilder) -> Store<State> {
        store_in(self.dir.path(), locket, wasi)
    }

    /// Starts the guest `remote`.
    pub async fn remote(&self) -> Guest {
        self.guest("remote", self.ctx().build()).await
    }

    /// Starts a guest that reads commands.
    pub async fn guest(&self, name: &str, locket: LocketCtx) -> Guest {
        Guest::start(component(name), |wasi| self.store_with(locket, wasi)).await
    }

    /// Whether the lock of a file is free for everybody.
    pub fn is_free(&self, name: &str) -> bool {
        self.foreign(name)
            .try_acquire(locket::Mode::Exclusive)
            .expect("a lock")
            .is_some()
    }
}

/// How a guest ended, and what it left behind.
pub struct End {
    /// The store, with all the resources of the guest.
    pub store: Store<State>,
    /// What the guest returned, or why it trapped.
    pub result: wasmtime::Result<Result<(), ()>>,
}

impl End {
    /// The context of the guest.
    pub fn locket(&mut self) -> &mut LocketCtx {
        &mut self.store.data_mut().locket
    }

    /// How many resources the guest left behind.
    pub fn resources(&mut self) -> usize {
        self.store.data_mut().resources()
    }
}

/// A guest that runs in a task of its own, which owns its store.
pub struct Guest {
    input: Option<DuplexStream>,
    output: BufReader<DuplexStream>,
    task: JoinHandle<End>,
}

impl Guest {
    /// Starts a guest in the store that `store` makes.
    pub async fn start(
        component: Component,
        store: impl FnOnce(&mut WasiCtxBuilder) -> Store<State>,
    ) -> Self {
        let (input, stdin) = duplex(1 << 17);
        let (output, stdout) = duplex(1 << 17);
        let mut store = store(
            WasiCtx::builder()
                .inherit_stderr()
                .stdin(AsyncStdinStream::new(stdin))
                .stdout(AsyncStdoutStream::new(1 << 17, stdout)),
        );
        let task = tokio::spawn(async move {
            let result = run(&mut store, &component).await;
            End { store, result }
        });
        Self {
            input: Some(input),
            output: BufReader::new(output),
            task,
        }
    }

    /// Gives a command and does not wait for the reply.
    pub async fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("the guest is alive");
        input
            .write_all(format!("{command}\n").as_bytes())
            .await
            .expect("the guest listens");
    }

    /// The reply to the next command, if it comes within `time`.
    pub async fn reply_within(&mut self, time: Duration) -> Option<String> {
        let mut line = String::new();
        timeout(time, self.output.read_line(&mut line))
            .await
            .ok()?
            .expect("the guest talks");
        Some(line.trim_end().to_owned())
    }

    /// The reply to the next command.
    #[track_caller]
    pub fn reply(&mut self) -> impl Future<Output = String> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.reply_within(STUCK).await;
            reply.unwrap_or_else(|| panic!("no reply in {STUCK:?}, asked at {caller}"))
        }
    }

    /// Gives a command, and returns the reply.
    #[track_caller]
    pub fn ask<'a>(&'a mut self, command: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            self.tell(command).await;
            let reply = self.reply_within(STUCK).await;
            reply.unwrap_or_else(|| panic!("no reply to {command:?} at {caller}"))
        }
    }

    /// Gives a command that succeeds, and returns what it results in.
    #[track_caller]
    pub fn ok<'a>(&'a mut self, command: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.ask(command).await;
            let result = reply
                .strip_prefix("ok")
                .map(|rest| rest.trim_start().to_owned());
            result.unwrap_or_else(|| panic!("{command:?} at {caller}: {reply}"))
        }
    }

    /// Gives a command that fails, and returns the reason.
    #[track_caller]
    pub fn err<'a>(&'a mut self, command: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.ask(command).await;
            let reason = reply.strip_prefix("err ").map(str::to_owned);
            reason.unwrap_or_else(|| panic!("{command:?} at {caller}: {reply}"))
        }
    }

    /// Gives a command that waits, and returns once it does.
    #[track_caller]
    pub fn wait<'a>(&'a mut self, command: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            self.tell(command).await;
            let reply = self.reply_within(QUIESCENT).await;
            assert_eq!(reply, None, "{command:?} at {caller} did not wait");
        }
    }

    /// Lets the guest come to the end of its input, or of what it does; keeps its store.
    pub async fn end(mut self) -> End {
        self.input = None;
        let end = timeout(STUCK, self.task).await.expect("the guest ends");
        end.expect("the task does not panic")
    }

    /// Aborts the task of the guest, and with it drops the store.
    pub async fn kill(self) {
        self.task.abort();
        let end = timeout(STUCK, self.task).await.expect("the task ends");
        assert!(end.is_err_and(|e| e.is_cancelled()));
    }
}

/// Runs a command of either generation of WASI.
async fn run(store: &mut Store<State>, component: &Component) -> wasmtime::Result<Result<(), ()>> {
    let component_type = component.component_type();
    let mut exports = component_type.exports(runtime());
    if !exports.any(|(name, _)| name.starts_with("wasi:cli/run@0.3.")) {
        let command = p2::bindings::Command::instantiate_async(&mut *store, component, linker());
        let command = command.await.expect("everything is linked");
        return command.wasi_cli_run().call_run(store).await;
    }
    let command = p3::bindings::Command::instantiate_async(&mut *store, component, linker());
    let command = command.await.expect("everything is linked");
    let run = async |store: &Accessor<State>| command.wasi_cli_run().call_run(store).await;
    locket_wasmtime::p3::run_concurrent(store, run).await?
}
