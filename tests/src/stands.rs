//! The stands with guests.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use locket::sandbox::Rights;
use locket::{Engine, Protocol};
use locket_test_support::dialogue::encode;
use locket_test_support::stands::Engines;
use locket_test_support::subject::{AnySubject, End, Site, Stand, Subject};
use locket_test_support::waits::waiters;
use locket_wasmtime::{LocketCtx, LocketCtxBuilder};
use tokio::runtime::Runtime;
use wasmtime_wasi::WasiCtx;

use crate::breaker::break_lock;
use crate::harness::{Guest, component, store_in};

/// Guests of one host: the component `remote`. They know the directory as `/locks`.
#[derive(Clone, Debug)]
pub struct Guests {
    site: Arc<Site>,
    engine: Engine,
}

impl Guests {
    /// The engine that the guests share.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The settings of a guest with certain rights to the directory.
    ///
    /// # Panics
    ///
    /// If the directory cannot be granted.
    pub fn ctx(&self, rights: Rights) -> LocketCtxBuilder {
        let ctx = LocketCtx::builder(&self.engine)
            .database(self.site.database())
            .expect("the database is not granted")
            .protocol(self.site.protocol);
        let ctx = ctx.grant_dir(&self.site.dir.0, "/locks", rights);
        ctx.expect("the directory can be granted")
    }

    /// A guest with settings of its own.
    pub fn start_with(&self, ctx: LocketCtx) -> GuestSubject {
        let dir = self.site.dir.0.path();
        let guest = Guest::start(component("remote"), |wasi| store_in(dir, ctx, wasi));
        GuestSubject {
            guest: RUNTIME.block_on(guest),
            stand: self.clone(),
            broken: None,
            secrets: self.secrets(),
            command: String::new(),
        }
    }

    /// Has another guest with certain rights break the lock.
    ///
    /// # Errors
    ///
    /// The error of the interface, by its name.
    pub fn break_lock(&self, rights: Rights) -> Result<(), &'static str> {
        let (dir, ctx) = (self.site.dir.0.path(), self.ctx(rights).build());
        let store = store_in(dir, ctx, &mut WasiCtx::builder());
        RUNTIME.block_on(break_lock(store, "/locks/lock"))
    }

    /// What no guest may be told: paths, and then words.
    fn secrets(&self) -> [Vec<String>; 2] {
        let folders = [Some(self.site.dir.0.path()), self.site.database().parent()].map(|folder| {
            folder
                .expect("a database is in a folder")
                .display()
                .to_string()
        });
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname");
        let hostname = hostname.expect("the host has a name").trim().to_owned();
        [
            folders.into(),
            vec![std::process::id().to_string(), hostname],
        ]
    }
}

/// Guests run in tasks, tests in their own threads.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    runtime.expect("the runtime can be started")
});

impl Stand for Guests {
    fn new(protocol: Protocol) -> Self {
        Self {
            site: Arc::new(Site::new(protocol)),
            engine: Engine::new(),
        }
    }

    fn site(&self) -> &Site {
        &self.site
    }

    fn start(&self) -> AnySubject {
        Box::new(self.start_with(self.ctx(Rights::READ_WRITE).build()))
    }

    fn path(&self, name: &str) -> String {
        format!("/locks/{name}")
    }

    fn waiting(&self) -> Option<usize> {
        let (path, options) = (self.site.lock_path(), self.site.options());
        let lock = self.engine.open_with(path, &options);
        Some(waiters(&lock.expect("the lock can be opened")))
    }

    fn ends(&self) -> Vec<End> {
        let commands = ["drop a", "trap", "exit 1"].map(End::Command);
        [End::Finish, End::Kill]
            .into_iter()
            .chain(commands)
            .collect()
    }

    fn acquires(&self) -> &'static [&'static str] {
        &["acquire"]
    }

    fn is_one_queue(&self) -> bool {
        true
    }

    fn detects_deadlock(&self) -> bool {
        true
    }
}

/// A guest that a test thread commands. Its answers are in the words of the other subjects, and
/// must not contain what guests may not know.
pub struct GuestSubject {
    guest: Guest,
    stand: Guests,
    /// The answer to `break`, which another component has given.
    broken: Option<String>,
    secrets: [Vec<String>; 2],
    /// The last command.
    command: String,
}

impl GuestSubject {
    /// The next answer in the words of the interface, if it comes within `limit`.
    ///
    /// # Panics
    ///
    /// If it contains a secret.
    pub fn reply_within(&mut self, limit: Duration) -> Option<String> {
        let reply = RUNTIME.block_on(self.guest.reply_within(limit))?;
        let [paths, words] = &self.secrets;
        let path = paths.iter().find(|path| reply.contains(*path));
        assert_eq!(path, None, "{}: {reply}", self.command);
        // A time may be any number.
        if self.command != "elapsed" {
            let mut told = reply.split(|c: char| !c.is_alphanumeric());
            let word = told.find(|told| words.iter().any(|word| word == told));
            assert_eq!(word, None, "{}: {reply}", self.command);
        }
        Some(reply)
    }

    /// Sends a command, and returns the answer in the words of the interface.
    ///
    /// # Panics
    ///
    /// If there is none in time.
    #[track_caller]
    pub fn reply(&mut self, line: &str) -> String {
        self.send(line);
        let reply = self.reply_within(crate::harness::STUCK);
        reply.unwrap_or_else(|| panic!("no reply to {line:?}"))
    }

    /// How many resources the guest has left behind when it has come to its end.
    pub fn resources_at_the_end(self) -> usize {
        RUNTIME.block_on(self.guest.end()).resources()
    }

    /// Waits for the end of a guest whose last command traps.
    ///
    /// # Panics
    ///
    /// If it does not trap.
    pub fn traps(self) {
        let end = RUNTIME.block_on(self.guest.end());
        assert!(end.result.is_err(), "the guest traps");
    }
}

impl Subject for GuestSubject {
    fn send(&mut self, line: &str) {
        line.clone_into(&mut self.command);
        if line == "break a" {
            let broken = self.stand.break_lock(Rights::ALL);
            self.broken = Some(broken.map_or_else(|e| format!("err {e}"), |()| "ok".into()));
        } else {
            RUNTIME.block_on(self.guest.tell(line));
        }
    }

    fn answer_within(&mut self, limit: Duration) -> Option<String> {
        let reply = match self.broken.take() {
            Some(broken) => broken,
            None => self.reply_within(limit)?,
        };
        Some(in_our_words(&reply))
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn finish(self: Box<Self>) {
        let end = RUNTIME.block_on(self.guest.end());
        assert!(matches!(end.result, Ok(Ok(()))), "the guest ends well");
    }

    fn kill(self: Box<Self>) {
        RUNTIME.block_on(self.guest.kill());
    }

    fn ended(self: Box<Self>) {
        drop(RUNTIME.block_on(self.guest.end()));
    }
}

/// Translates an answer from the words of the interface to those of the engine.
fn in_our_words(reply: &str) -> String {
    let (verdict, rest) = reply.split_once(' ').unwrap_or((reply, ""));
    let first = rest.split(' ').next().unwrap_or_default();
    let word = match (verdict, first) {
        ("err", "access-denied") => "denied",
        ("err", "no-entry") => "not-found",
        ("err", "not-supported") => "unsupported",
        ("err", first) => first,
        ("ok", "unlocked") => "Unlocked",
        ("ok", "held") => "Held",
        ("ok", "lost") if rest == "lost broken" => "Lost(Broken)",
        ("ok", first) if first.starts_with("token=") => return "ok".into(),
        ("ok", first) if first.starts_with("label=") => &rest[first.len() + 1..],
        _ => return reply.into(),
    };
    format!("{verdict} {word}")
}

/// By turns a guest, and a native thread with an engine of its own.
#[derive(Debug)]
pub struct GuestsAndNative {
    guests: Guests,
    started: AtomicUsize,
}

impl Stand for GuestsAndNative {
    fn new(protocol: Protocol) -> Self {
        Self {
            guests: Guests::new(protocol),
            started: AtomicUsize::new(0),
        }
    }

    fn site(&self) -> &Site {
        self.guests.site()
    }

    fn start(&self) -> AnySubject {
        if self
            .started
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(2)
        {
            return self.guests.start();
        }
        Box::new(Native {
            thread: Engines::start_in(self.site()),
            folder: encode(&self.site().dir.path("").to_string_lossy()),
        })
    }

    fn path(&self, name: &str) -> String {
        self.guests.path(name)
    }

    fn waiting(&self) -> Option<usize> {
        None
    }

    fn ends(&self) -> Vec<End> {
        vec![End::Finish, End::Kill]
    }

    fn acquires(&self) -> &'static [&'static str] {
        self.guests.acquires()
    }
}

/// A thread that knows the directory by the name that guests have for it.
struct Native {
    thread: AnySubject,
    folder: String,
}

impl Subject for Native {
    fn send(&mut self, line: &str) {
        self.thread.send(&line.replace("/locks/", &self.folder));
    }

    fn answer_within(&mut self, limit: Duration) -> Option<String> {
        self.thread.answer_within(limit)
    }

    fn pid(&self) -> u32 {
        self.thread.pid()
    }

    fn finish(self: Box<Self>) {
        self.thread.finish();
    }

    fn kill(self: Box<Self>) {
        self.thread.kill();
    }

    fn ended(self: Box<Self>) {
        self.thread.ended();
    }
}
