//! The contracts of the predecessors for guests, in every protocol; the numbers are those of
//! `host/tests/contract.rs`. And what guests must not do or learn through locks that are a name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;

use locket::sandbox::Rights;
use locket::{Engine, LockFile, LostReason, Mode, Options, Protocol, State};
use locket_tests::harness::{Guest, Host, QUIESCENT, STUCK, eventually, linker, runtime};
use locket_wasmtime::{LocketCtx, LocketCtxBuilder};
use wasmtime::component::Component;
use wasmtime_wasi::WasiCtx;

const EX: Mode = Mode::Exclusive;
const BROKEN: State = State::Lost(LostReason::Broken);

/// A host whose guests lock `/locks/a` in one protocol.
struct Site {
    host: Host,
    /// That of the database is not granted to guests.
    elsewhere: tempfile::TempDir,
    protocol: Protocol,
}

impl Site {
    fn new(protocol: Protocol) -> Self {
        println!("protocol {protocol}");
        Self {
            host: Host::new(),
            elsewhere: tempfile::tempdir().unwrap(),
            protocol,
        }
    }

    fn database(&self) -> PathBuf {
        self.elsewhere.path().join("locks.db")
    }

    /// The settings of a guest with certain rights.
    fn ctx(&self, rights: Rights) -> LocketCtxBuilder {
        let ctx = LocketCtx::builder(&self.host.locks)
            .database(self.database())
            .unwrap()
            .protocol(self.protocol);
        ctx.grant_dir(&self.host.dir, "/locks", rights).unwrap()
    }

    /// A guest that has opened the lock as `a`.
    async fn guest(&self) -> Told {
        let ctx = self.ctx(Rights::READ_WRITE).build();
        let mut told = self.started(ctx).await;
        let open = format!("open a /locks/a keep {}", self.protocol);
        assert_eq!(told.ask(&open).await, "ok");
        told
    }

    async fn started(&self, ctx: LocketCtx) -> Told {
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let elsewhere = self.elsewhere.path().to_str().unwrap();
        Told {
            guest: self.host.guest("remote", ctx).await,
            paths: [self.host.dir.path().to_str().unwrap(), elsewhere].map(str::to_owned),
            words: [std::process::id().to_string(), hostname.trim().into()],
        }
    }

    /// The lock for this process, in an engine of its own: to the guests, another process.
    fn foreign(&self) -> LockFile {
        let options = Options::new().protocol(self.protocol);
        let options = options.database(self.database());
        Engine::new()
            .open_with(self.host.path("a"), &options)
            .unwrap()
    }

    fn is_free(&self) -> bool {
        self.foreign().try_acquire(EX).unwrap().is_some()
    }

    /// The names in the directory of the locks.
    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.host.dir).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap())).collect()
    }
}

/// A guest, of which every answer is read for what it must not be told.
struct Told {
    guest: Guest,
    paths: [String; 2],
    words: [String; 2],
}

impl Told {
    async fn ask(&mut self, command: &str) -> String {
        self.guest.tell(command).await;
        self.reply(command).await
    }

    async fn reply(&mut self, command: &str) -> String {
        let reply = self.guest.reply_within(STUCK).await;
        let reply = reply.unwrap_or_else(|| panic!("no reply to {command:?}"));
        let path = self.paths.iter().find(|path| reply.contains(*path));
        assert_eq!(path, None, "{command}: {reply}");
        let mut words = reply.split(|c: char| !c.is_alphanumeric());
        let word = words.find(|word| self.words.iter().any(|told| told == word));
        assert_eq!(word, None, "{command}: {reply}");
        reply
    }

    /// Gives a command that waits, and returns once it does.
    async fn wait(&mut self, command: &str) {
        self.guest.wait(command).await;
    }
}

const HELD: &str = "ok held token=none valid-for=none";
const OTHER: &str = "ok label=none mode=exclusive self=false";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_01_acquire_basic() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        let before = site.names();
        assert_eq!(guest.ask("state a").await, "ok unlocked");
        assert_eq!(guest.ask("is-locked a").await, "ok false");
        for timeout in ["none", "0", "60000"] {
            let acquire = format!("acquire a exclusive {timeout}");
            assert_eq!(guest.ask(&acquire).await, "ok token=none valid-for=none");
            assert_eq!(guest.ask("state a").await, HELD);
            assert_eq!(guest.ask("is-locked a").await, "ok true");
            let me = "ok label=none mode=exclusive self=true";
            assert_eq!(guest.ask("holder a").await, me);
            assert!(!site.is_free());
            assert_eq!(guest.ask("release a").await, "ok");
            assert_eq!(guest.ask("state a").await, "ok unlocked");
            assert_eq!(guest.ask("holder a").await, "ok none");
            assert!(site.is_free());
        }
        assert_eq!(site.names(), before, "something was left behind");
        let fifo = !protocol.is_existence_lock();
        let worth = format!("ok scope=host ttl=none fifo={fifo} fencing=false");
        assert_eq!(guest.ask("guarantee a").await, worth);
        assert_eq!(guest.ask("path a").await, "ok /locks/a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_02_to_07_behind_a_native_holder() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        let foreign = site.foreign();
        let guard = foreign.acquire(EX, None).unwrap();
        let before = site.names();
        assert_eq!(guest.ask("acquire a exclusive 0").await, "err would-block");
        assert_eq!(guest.ask("acquire a exclusive 30").await, "err timeout");
        assert_eq!(guest.ask("is-locked a").await, "ok true");
        assert_eq!(guest.ask("holder a").await, OTHER);
        assert_eq!(guest.ask("state a").await, "ok unlocked");
        assert_eq!(guest.ask("release a").await, "err not-owner");
        assert_eq!(site.names(), before);
        guest.wait("acquire a exclusive none").await;
        guard.release().unwrap();
        assert!(guest.reply("acquire").await.starts_with("ok"));
        // And the other way round.
        assert!(foreign.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
        assert!(foreign.release().unwrap_err().is_not_owner());
        assert!(foreign.is_locked().unwrap());
        let waiter = thread::spawn(move || foreign.acquire(EX, STUCK).unwrap().release().unwrap());
        assert_eq!(guest.ask("release a").await, "ok");
        waiter.join().unwrap();
        assert_eq!(guest.ask("release a").await, "err not-locked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_02_to_07_behind_another_guest() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let (mut holder, mut guest) = (site.guest().await, site.guest().await);
        assert!(holder.ask("acquire a exclusive 0").await.starts_with("ok"));
        assert_eq!(guest.ask("acquire a exclusive 0").await, "err would-block");
        assert_eq!(guest.ask("acquire a exclusive 30").await, "err timeout");
        assert_eq!(guest.ask("holder a").await, OTHER);
        assert_eq!(guest.ask("state a").await, "ok unlocked");
        assert_eq!(guest.ask("release a").await, "err not-owner");
        // Another handle of the holder is the same owner.
        let open = format!("open again /locks/./a keep {protocol}");
        assert_eq!(holder.ask(&open).await, "ok");
        assert_eq!(holder.ask("state again").await, HELD);
        guest.wait("acquire a exclusive 60000").await;
        assert_eq!(holder.ask("release again").await, "ok");
        assert!(guest.reply("acquire").await.starts_with("ok"));
        assert_eq!(holder.ask("release a").await, "err not-owner");
        assert_eq!(guest.ask("release a").await, "ok");
    }
}

/// There the former owner is told that it is not locked, and removes what the next one made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_08_break_lock() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        assert_eq!(break_lock(&site, Rights::ALL).await, Err(NOT_LOCKED));
        assert!(guest.ask("acquire a exclusive 0").await.starts_with("ok"));
        let rights = Rights::READ_WRITE;
        assert_eq!(break_lock(&site, rights).await, Err(ACCESS_DENIED));
        assert_eq!(guest.ask("state a").await, HELD);
        assert_eq!(break_lock(&site, Rights::ALL).await, Ok(()));
        assert_eq!(guest.ask("state a").await, "ok lost broken");
        assert_eq!(guest.ask("is-locked a").await, "ok false");
        // The release of what was lost leaves the next owner's lock alone.
        let foreign = site.foreign();
        let guard = foreign.acquire(EX, STUCK).unwrap();
        let before = site.names();
        assert_eq!(guest.ask("release a").await, "err lost broken");
        assert_eq!(guest.ask("state a").await, "ok unlocked");
        assert_eq!(guest.ask("release a").await, "err not-owner");
        assert_eq!(site.names(), before);
        assert_eq!(foreign.state(), State::Held);
        // The native owner loses it as well, if it is one that can be taken from a process.
        if protocol.is_existence_lock() {
            assert_eq!(break_lock(&site, Rights::BREAK).await, Ok(()));
            eventually("the owner learns it", || foreign.state() == BROKEN);
            assert!(guard.release().unwrap_err().is_lost());
            assert!(site.is_free());
        } else {
            let refused = break_lock(&site, Rights::ALL).await;
            assert_eq!(refused, Err(NOT_SUPPORTED));
            assert_eq!(foreign.state(), State::Held);
        }
    }
}

/// Broken by another process, which only says so by what it does to the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_08_break_lock_from_outside() {
    for &protocol in Protocol::ALL
        .iter()
        .filter(|protocol| protocol.is_existence_lock())
    {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        assert!(guest.ask("acquire a exclusive 0").await.starts_with("ok"));
        let foreign = site.foreign();
        foreign.break_lock().unwrap();
        let _guard = foreign.acquire(EX, STUCK).unwrap();
        while guest.ask("state a").await != "ok lost broken" {}
        assert_eq!(guest.ask("release a").await, "err lost broken");
        assert_eq!(guest.ask("acquire a exclusive 0").await, "err would-block");
        assert_eq!(foreign.state(), State::Held);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_09_and_10_scopes_and_functions() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        let grant = guest.ask("guard g a exclusive 0").await;
        assert_eq!(grant, "ok token=none valid-for=none");
        assert!(!site.is_free());
        assert_eq!(guest.ask("drop g").await, "ok");
        assert!(site.is_free());
        assert!(guest.ask("guard g a exclusive 0").await.starts_with("ok"));
        assert_eq!(guest.ask("unguard g").await, "ok");
        assert!(site.is_free());
        assert_eq!(guest.ask("with /locks/a none").await, "ok");
        assert!(site.is_free());
        let foreign = site.foreign();
        let _guard = foreign.acquire(EX, None).unwrap();
        assert_eq!(guest.ask("with /locks/a 0").await, "err would-block");
        assert_eq!(guest.ask("with /locks/a 30").await, "err timeout");
    }
}

/// There the owner succeeds, and one release frees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_16_acquire_by_the_owner() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        assert!(guest.ask("acquire a exclusive 0").await.starts_with("ok"));
        assert_eq!(guest.ask("acquire a exclusive 0").await, "err would-block");
        // It would wait for itself.
        assert_eq!(guest.ask("acquire a exclusive none").await, "err deadlock");
        assert_eq!(guest.ask("acquire a exclusive 60000").await, "err deadlock");
        assert_eq!(guest.ask("state a").await, HELD);
        assert_eq!(guest.ask("release a").await, "ok");
        assert_eq!(guest.ask("release a").await, "err not-locked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pylockfile_18_adjacent_locks() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        let open = format!("open b /locks/b keep {protocol}");
        assert_eq!(guest.ask(&open).await, "ok");
        assert!(guest.ask("acquire a exclusive 0").await.starts_with("ok"));
        assert_eq!(guest.ask("is-locked b").await, "ok false");
        assert!(guest.ask("acquire b exclusive 0").await.starts_with("ok"));
        assert_eq!(guest.ask("release a").await, "ok");
        assert_eq!(guest.ask("state b").await, HELD);
        assert!(site.is_free());
        assert_eq!(guest.ask("release b").await, "ok");
    }
}

/// However the guest ends; there is a process behind it that lives on, so nobody would be proven
/// dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_file_13_the_end_of_a_guest_frees_its_locks() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let before = site.guest().await.guest.end().await;
        drop(before);
        let before = site.names();
        let mut waiting = site.guest().await;
        for way in ["end", "drop", "trap", "exit 1", "kill"] {
            let mut guest = site.guest().await;
            assert!(guest.ask("acquire a exclusive 0").await.starts_with("ok"));
            waiting.wait("acquire a exclusive none").await;
            match way {
                "end" => drop(guest.guest.end().await),
                "drop" => assert_eq!(guest.ask("drop a").await, "ok"),
                "kill" => guest.guest.kill().await,
                way => {
                    guest.guest.tell(way).await;
                    drop(guest.guest.end().await);
                }
            }
            assert!(waiting.reply(way).await.starts_with("ok"), "{way}");
            assert_eq!(waiting.ask("release a").await, "ok");
            assert!(site.is_free(), "{way}");
        }
        assert_eq!(site.names(), before, "something was left behind");
    }
}

/// As from a process that dies, in which its guests die too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_file_13_a_guest_takes_over_from_a_native_process_that_is_dead() {
    use locket_tests::process::Process;
    for protocol in [Protocol::Link, Protocol::Symlink, Protocol::Mkdir]
        .into_iter()
        .chain([Protocol::Soft, Protocol::Sqlite])
    {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        let database = site.database();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peer"));
        command.arg(site.host.path("a"));
        command.args(["--protocol", protocol.name()]);
        command.arg("--database").arg(database);
        let mut peer = Process::spawn(&mut command);
        assert_eq!(peer.ask("acquire exclusive none"), "ok");
        assert_eq!(guest.ask("acquire a exclusive 0").await, "err would-block");
        guest.words[0] = peer.id().to_string();
        assert_eq!(guest.ask("holder a").await, OTHER);
        guest.wait("acquire a exclusive none").await;
        peer.kill();
        assert!(guest.reply("acquire").await.starts_with("ok"));
        assert_eq!(guest.ask("release a").await, "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_a_name_cannot_be_shared() {
    for &protocol in Protocol::ALL {
        let site = Site::new(protocol);
        let mut guest = site.guest().await;
        let before = site.names();
        for timeout in ["0", "30", "none"] {
            let reply = guest.ask(&format!("acquire a shared {timeout}")).await;
            if protocol.is_existence_lock() {
                assert_eq!(reply, "err not-supported");
            } else {
                assert_eq!(reply, "ok token=none valid-for=none");
                assert_eq!(guest.ask("release a").await, "ok");
            }
        }
        assert_eq!(guest.ask("state a").await, "ok unlocked");
        assert_eq!(site.names(), before);
        assert!(site.is_free());
    }
}

/// Its holder makes a directory entry, and is alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existence_lock_takes_a_right_of_its_own() {
    for &protocol in Protocol::ALL
        .iter()
        .filter(|protocol| protocol.is_existence_lock())
    {
        let site = Site::new(protocol);
        for rights in [
            Rights::NONE,
            Rights::READ_ONLY,
            Rights::EXCLUSIVE,
            Rights::CREATE,
            Rights::EXCLUSIVE | Rights::SHARED,
            Rights::CREATE | Rights::SHARED,
            Rights::LOCKS | Rights::REMOVE | Rights::BREAK,
            Rights::ALL.without(Rights::CREATE),
            Rights::ALL.without(Rights::EXCLUSIVE),
            Rights::ALL.without(Rights::EXISTENCE),
        ] {
            let mut guest = site.started(site.ctx(rights).build()).await;
            let open = format!("open a /locks/a keep {protocol}");
            assert_eq!(guest.ask(&open).await, "err access-denied", "{rights:?}");
            assert_eq!(guest.ask("open a /locks/a").await, "err access-denied");
        }
        assert!(site.names().is_empty());
        assert!(!site.database().exists());
        let rights = Rights::CREATE | Rights::EXCLUSIVE | Rights::EXISTENCE;
        let mut guest = site.started(site.ctx(rights).build()).await;
        let open = format!("open a /locks/a keep {protocol}");
        assert_eq!(guest.ask(&open).await, "ok");
        assert!(guest.ask("acquire a exclusive 0").await.starts_with("ok"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_there_are_no_rows() {
    let site = Site::new(Protocol::Sqlite);
    let ctx = LocketCtx::builder(&site.host.locks);
    let ctx = ctx
        .grant_dir(&site.host.dir, "/locks", Rights::ALL)
        .unwrap();
    let mut guest = site.started(ctx.build()).await;
    let reply = guest.ask("open a /locks/a keep sqlite").await;
    assert_eq!(reply, "err not-supported");
    // One that is none is a fault of the host, of which the guest learns no more than that.
    fs::write(site.database(), "garbage".repeat(1000)).unwrap();
    let mut guest = site.started(site.ctx(Rights::ALL).build()).await;
    assert_eq!(guest.ask("open a /locks/a keep sqlite").await, "ok");
    let reply = guest.ask("acquire a exclusive none").await;
    assert_eq!(reply, "err io other");
    let reply = guest.ask("is-locked a").await;
    assert_eq!(reply, "err io other");
    assert!(site.names().is_empty());
}

/// The directory of the name is found beneath the grant, and the name is never followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_leads_out_of_the_grant() {
    for &protocol in Protocol::ALL
        .iter()
        .filter(|protocol| protocol.is_existence_lock())
    {
        let site = Site::new(protocol);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "1\n").unwrap();
        symlink(outside.path(), site.host.path("out")).unwrap();
        symlink(outside.path().join("victim"), site.host.path("b")).unwrap();
        symlink(outside.path().join("victim"), site.host.path("b.lock")).unwrap();
        symlink(outside.path().join("missing"), site.host.path("c")).unwrap();
        symlink(outside.path().join("missing"), site.host.path("c.lock")).unwrap();
        let before = site.names();
        let mut guest = site.started(site.ctx(Rights::ALL).build()).await;
        let open = |path: &str| format!("open x {path} keep {protocol}");
        for path in ["/locks/out/a", "/locks/../a", "/locks/sub/../../a"] {
            let reply = guest.ask(&open(path)).await;
            assert!(
                matches!(&*reply, "err invalid-path" | "err no-entry"),
                "{path}: {reply}"
            );
        }
        for path in ["/locks", "/locks/", "/locks/.", "/locks/out/"] {
            let reply = guest.ask(&open(path)).await;
            assert_eq!(reply, "err invalid-path", "{path}");
        }
        let reply = guest.ask(&open("/elsewhere/a")).await;
        assert_eq!(reply, "err access-denied");
        // Somebody's lock, whatever it leads to; of a row the file says nothing.
        for name in ["b", "c"] {
            let reply = guest.ask(&open(&format!("/locks/{name}"))).await;
            assert_eq!(reply, "ok");
            let reply = guest.ask("acquire x exclusive 0").await;
            if protocol == Protocol::Sqlite {
                assert!(reply.starts_with("ok"), "{reply}");
                assert_eq!(guest.ask("release x").await, "ok");
            } else {
                assert_eq!(reply, "err would-block");
                assert_eq!(guest.ask("holder x").await, OTHER);
                assert_eq!(guest.ask("release x").await, "err not-owner");
            }
        }
        assert_eq!(site.names(), before);
        let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(left.len(), 1);
        let victim = fs::read_to_string(outside.path().join("victim"));
        assert_eq!(victim.unwrap(), "1\n");
    }
}

// The errors of `admin`, by their place in the interface.
const NOT_LOCKED: u32 = 2;
const ACCESS_DENIED: u32 = 5;
const NOT_SUPPORTED: u32 = 9;

/// A component that breaks the lock of `/locks/a`, and answers 0, or the number of the error plus 1.
const BREAKER: &str = r#"
(component
  (import "locket:lock/api@0.1.0" (instance $api
    (type $reason' (enum "expired" "broken" "disconnected" "io"))
    (export "lost-reason" (type $reason (eq $reason')))
    (type $kind' (enum "no-space" "quota" "read-only" "stale" "too-many-files" "too-many-locks" "other"))
    (export "io-kind" (type $kind (eq $kind')))
    (type $error' (variant
      (case "would-block") (case "timeout") (case "not-locked") (case "not-owner")
      (case "deadlock") (case "access-denied") (case "no-entry") (case "invalid-path")
      (case "limit-exceeded") (case "not-supported") (case "unavailable")
      (case "lost" $reason) (case "canceled") (case "io" $kind) (case "other" (option string))))
    (export "error" (type $error (eq $error')))))
  (alias export $api "error" (type $error))
  (import "locket:lock/admin@0.1.0" (instance $admin
    (alias outer 1 $error (type $error))
    (export "break-lock" (func (param "path" string) (result (result (error $error)))))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "/locks/a")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $break (canon lower (func $admin "break-lock") (memory $m) (realloc (core func $realloc))))
  (core module $main
    (import "" "memory" (memory 1))
    (import "" "break" (func $break (param i32 i32 i32)))
    (func (export "break") (result i32)
      (call $break (i32.const 0) (i32.const 8) (i32.const 64))
      (if (result i32) (i32.load8_u (i32.const 64))
        (then (i32.add (i32.load8_u (i32.const 68)) (i32.const 1)))
        (else (i32.const 0)))))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $m))
    (export "break" (func $break))))))
  (func (export "break") (result u32) (canon lift (core func $main "break")))
)
"#;

/// Has a guest with certain rights break the lock.
async fn break_lock(site: &Site, rights: Rights) -> Result<(), u32> {
    let ctx = site.ctx(rights).build();
    let mut store = site.host.store_with(ctx, &mut WasiCtx::builder());
    let component = Component::new(runtime(), wat::parse_str(BREAKER).unwrap()).unwrap();
    let instance = linker().instantiate_async(&mut store, &component).await;
    let function = instance
        .unwrap()
        .get_typed_func::<(), (u32,)>(&mut store, "break");
    let answer = function.unwrap().call_async(&mut store, ()).await.unwrap();
    answer.0.checked_sub(1).map_or(Ok(()), Err)
}
