//! Guests cannot lock a database that keeps locks. If a guest can write one by other means, nothing in
//! it delays a call or leads elsewhere.

use std::os::unix::fs::symlink;

use locket::{Options, Protocol};
use locket_tests::process::Process;
use wasmtime_wasi::{FsPerms, WasiView};

use super::*;

/// The most that a call may exceed its timeout.
const MORE: Duration = Duration::from_millis(100);

#[test]
fn a_database_beneath_a_granted_directory_is_refused() {
    let (host, elsewhere) = (Host::new(), tempfile::tempdir().unwrap());
    fs::create_dir_all(host.path("a/b")).unwrap();
    symlink(host.path("a"), elsewhere.path().join("link")).unwrap();
    let beneath = [
        host.path("locks.db"),
        host.path("a/b/locks.db"),
        host.path("a/../locks.db"),
        elsewhere.path().join("link/b/locks.db"),
    ];
    let refused = |result: std::io::Result<()>, what: &Path| {
        let error = result.expect_err(what.to_str().unwrap());
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("keep the database elsewhere"));
    };
    for database in &beneath {
        let builder = |engine: &Engine| LocketCtx::builder(engine);
        // In either order, in one context of the engine or two.
        let engine = Engine::new();
        let granted = builder(&engine)
            .grant_dir(&host.dir, "/locks", Rights::READ_ONLY)
            .unwrap();
        refused(builder(&engine).database(database).map(drop), database);
        refused(granted.database(database).map(drop), database);
        // The same goes for the host's own locks, as long as the directory is granted.
        let guest = Sandbox::builder(&engine);
        let guest = guest.grant_dir(&host.dir, "/l", Rights::LOCKS).unwrap();
        let options = Options::new().protocol(Protocol::Sqlite).database(database);
        engine.open_with(host.path("k"), &options).unwrap_err();
        refused(guest.database(database).map(drop), database);
        engine.open_with(host.path("k"), &options).unwrap();
        // From now on the engine knows the database.
        let grant = builder(&engine).grant_dir(&host.dir, "/locks", Rights::READ_ONLY);
        refused(grant.map(drop), database);

        let engine = Engine::new();
        let named = builder(&engine).database(database).unwrap();
        let grant = builder(&engine).grant_dir(&host.dir, "/l", Rights::LOCKS);
        refused(grant.map(drop), database);
        refused(
            named.grant_dir(&host.dir, "/l", Rights::LOCKS).map(drop),
            database,
        );
        let guest = Sandbox::builder(&engine).grant_dir(&host.dir, "/l", Rights::LOCKS);
        refused(guest.map(drop), database);
        // Another directory can be granted.
        let other = tempfile::tempdir().unwrap();
        let guest = Sandbox::builder(&engine).grant_dir(&other, "/l", Rights::ALL);
        drop(guest.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preopened_directory_with_a_database_is_not_granted() {
    let host = Host::new();
    let ctx = LocketCtx::builder(&host.locks);
    let ctx = ctx.database(host.path("locks.db")).unwrap().build();
    let mut wasi = wasmtime_wasi::WasiCtx::builder();
    wasi.preopened_dir(host.dir.path(), "/more", FsPerms::ReadOnly)
        .unwrap();
    let other = LocketCtx::builder(&host.locks).build();
    let mut store = host.store_with(other, &mut wasi);
    let error = locket_wasmtime::grant_preopens(&ctx, store.data_mut().ctx()).unwrap_err();
    let error = format!("{error:?}");
    assert!(error.contains("keep the database elsewhere"), "{error}");
}

/// A guest that may write the directory of the database, and may lock in a directory below that.
struct Hostile {
    host: Host,
    elsewhere: tempfile::TempDir,
    guest: Guest,
}

impl Hostile {
    async fn new() -> Self {
        let host = Host::new();
        fs::create_dir(host.path("q")).unwrap();
        let ctx = LocketCtx::builder(&host.locks).protocol(Protocol::Sqlite);
        let ctx = ctx.database(host.path("locks.db")).unwrap();
        let ctx = ctx.grant_dir(host.path("q"), "/q", Rights::READ_WRITE);
        let guest = host.guest("remote", ctx.unwrap().build()).await;
        let elsewhere = tempfile::tempdir().unwrap();
        Self {
            host,
            elsewhere,
            guest,
        }
    }

    /// Makes the database that `sql` describes, which the guest could do as well. `KEY` in it is the
    /// name of the lock `/q/k`. Another process does it, since this one has a SQLite library of its own.
    fn make(&self, sql: &str) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(self.host.path(&format!("locks.db{suffix}")));
        }
        let dir = self.host.path("q").canonicalize().unwrap();
        let key = dir.join("k.lock");
        let sql = sql.replace("KEY", key.to_str().unwrap());
        let sql = sql.replace("ENDLESS", ENDLESS).replace("TABLE", TABLE);
        let program = "import sqlite3, sys\n\
                       sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
        let made = Command::new("python3")
            .args(["-c", program])
            .arg(self.host.path("locks.db"))
            .arg(sql)
            .status();
        assert!(made.unwrap().success());
    }

    /// Makes every call, and checks that it returns in time. One of several tries has to be in time,
    /// since the machine may be busy during the others.
    async fn call_all(&mut self, what: &str) {
        for (command, timeout) in [
            ("open k /q/k", 0),
            ("is-locked k", 0),
            ("holder k", 0),
            ("acquire k exclusive 0", 0),
            ("state k", 0),
            ("release k", 0),
            ("acquire k exclusive 150", 150),
            ("release k", 0),
        ] {
            let mut times: Vec<u128> = Vec::new();
            while times.iter().all(|time| *time > timeout + MORE.as_millis()) {
                assert!(times.len() < 5, "{what}: {command}: {times:?}");
                let reply = self.guest.ask(command).await;
                println!("{what}: {command}: {reply}");
                times.push(self.guest.ok("elapsed").await.parse().unwrap());
            }
        }
        self.guest.ask("drop k").await;
    }
}

/// The beginning of a query on `c`, which has endless rows.
const ENDLESS: &str = "with recursive c(x) as (select 1 union all select x + 1 from c)";

/// The table as it should be.
const TABLE: &str = "create table locks (lock_file varchar(32), unique_name varchar(32));";

/// What a hostile database can contain.
const SCHEMAS: [(&str, &str); 8] = [
    (
        "an endless view",
        "create view locks as ENDLESS \
         select 'KEY' as lock_file, null as unique_name from c where x < 0",
    ),
    (
        "a view with endless rows",
        "create view locks as ENDLESS \
         select 'KEY' as lock_file, hex(zeroblob(1000)) as unique_name from c",
    ),
    (
        "endless triggers",
        "TABLE create table t (x); \
         create trigger a after insert on locks begin insert into t ENDLESS select x from c; end; \
         create trigger b after delete on locks begin insert into t ENDLESS select x from c; end;",
    ),
    (
        "a virtual table",
        "create virtual table locks using fts5(lock_file, unique_name); \
         insert into locks values ('KEY', 'me')",
    ),
    (
        "a huge row",
        "TABLE insert into locks values ('KEY', hex(zeroblob(20000000)))",
    ),
    (
        "very many holders",
        "TABLE insert into locks ENDLESS select 'KEY', 'me' || x from c limit 300000",
    ),
    (
        "another index under the name of ours",
        "TABLE create index locket_one_holder on locks (hex(zeroblob(20000)))",
    ),
    (
        "a costly column",
        "create table locks (lock_file, unique_name, \
         x as (hex(zeroblob(30000)) like '%0%0%0%0%1') stored)",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_a_database_delays_a_call() {
    let mut hostile = Hostile::new().await;
    let database = hostile.host.path("locks.db");
    for (what, sql) in SCHEMAS {
        hostile.make(sql);
        hostile.call_all(what).await;
    }
    fs::write(&database, "text").unwrap();
    hostile.call_all("no database").await;
    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    hostile.call_all("a directory").await;
    fs::remove_dir(&database).unwrap();
    // A good database works again.
    hostile.make(TABLE);
    hostile.guest.ok("open k /q/k").await;
    hostile.guest.ok("acquire k exclusive 5000").await;
    hostile.guest.ok("release k").await;
}

/// Another process has an exclusive transaction, and does not end it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_delays_no_try() {
    let mut hostile = Hostile::new().await;
    hostile.make(TABLE);
    let program = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                   c.execute('begin exclusive')\nprint('ok', flush=True)\nsys.stdin.read()";
    let mut locker = Process::python(program, &hostile.host.path("locks.db"));
    assert_eq!(locker.answer(), "ok");
    hostile.call_all("a locked database").await;
    assert!(locker.finish());
}

/// A link takes the place of the database, or of a file that SQLite keeps beside it. Nothing is created
/// or changed at its target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_link_in_place_of_a_database_is_followed() {
    let mut hostile = Hostile::new().await;
    let elsewhere = hostile.elsewhere.path().to_owned();
    hostile.make("create table t (x); insert into t values (1)");
    fs::copy(hostile.host.path("locks.db"), elsewhere.join("victim.db")).unwrap();
    fs::write(elsewhere.join("data"), "precious").unwrap();
    let before = snapshot(&elsewhere);
    let journal = "pragma journal_mode = delete;";
    let wal = "pragma journal_mode = wal;";
    for (mode, name, target) in [
        (journal, "locks.db", "victim.db"),
        (journal, "locks.db", "made.db"),
        (journal, "locks.db", "data"),
        (journal, "locks.db-journal", "data"),
        (journal, "locks.db-journal", "made"),
        (wal, "locks.db-wal", "data"),
        (wal, "locks.db-wal", "made"),
        (wal, "locks.db-shm", "data"),
        (wal, "locks.db-shm", "made"),
    ] {
        hostile.make(&format!("{mode} TABLE"));
        let _ = fs::remove_file(hostile.host.path(name));
        symlink(elsewhere.join(target), hostile.host.path(name)).unwrap();
        let what = format!("{name} -> {target}");
        hostile.call_all(&what).await;
        assert_unchanged(&elsewhere, &before, &what);
    }
}
