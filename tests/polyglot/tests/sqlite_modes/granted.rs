//! Hosts that grant less than all.

use locket::Engine;
use locket::sandbox::Rights;
use locket_tests::harness::{Guest, State, runtime};
use locket_tests::process::Process;
use locket_wasmtime::LocketCtx;
use polyglot::sqlite::program::{Program, Side};
use std::path::Path;
use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime_wasi::FsPerms;

use crate::Result;

/// A guest of this process that may do so much with the files and locks in a folder.
async fn guest(program: &Program, data: &Path, files: FsPerms, locks: Rights) -> Result<Guest> {
    let component = Component::from_file(runtime(), program.component())?;
    let locks = LocketCtx::builder(&Engine::new()).grant_dir(data, "/data", locks)?;
    let guest = Guest::start(component, |wasi| {
        wasi.args(&["steps", "locket"])
            .preopened_dir(data, "/data", files)
            .expect("it is a folder");
        let mut store = Store::new(runtime(), State::new(wasi.build(), locks.build()));
        store.set_epoch_deadline(1 << 60);
        store
    });
    Ok(guest.await)
}

/// A native process with a table of one row.
fn native(program: &Program, data: &Path, journal: &str) -> Process {
    let mut native = Process::spawn(Side::Native.command(program, data).arg("unix"));
    native.ask(&format!("open 0 file:{}/db", data.display()));
    native.ask(&format!("sql 0 pragma journal_mode={journal}"));
    native.ask("sql 0 create table t(n); insert into t values (1)");
    native
}

const SELECT: &str = "sql 0 select * from t";
const INSERT: &str = "sql 0 insert into t values (2)";
const LOCKED: &str = "5 database is locked";

#[tokio::test]
async fn a_guest_that_may_only_read_shares_the_database() -> Result {
    for journal in ["delete", "wal"] {
        let Some(program) = Program::of_ours("steps.c")? else {
            return Ok(());
        };
        let folder = tempfile::tempdir()?;
        let mut native = native(&program, folder.path(), journal);
        let rights = Rights::READ_ONLY;
        let mut guest = guest(&program, folder.path(), FsPerms::ReadOnly, rights).await?;
        assert_eq!(guest.ask("open 0 file:/data/db").await, "ok");
        assert_eq!(guest.ask(SELECT).await, "1");
        let refused = "8 attempt to write a readonly database";
        assert_eq!(guest.ask(INSERT).await, refused);
        assert_eq!(guest.ask("sql 0 begin").await, "ok");
        assert_eq!(guest.ask(SELECT).await, "1");
        let written = native.ask(INSERT);
        assert_eq!(guest.ask(SELECT).await, "1");
        assert_eq!(guest.ask("sql 0 commit").await, "ok");
        if journal == "wal" {
            assert_eq!(written, "ok");
        } else {
            assert_eq!(written, LOCKED);
            assert_eq!(native.ask("sql 0 begin exclusive"), "ok");
            assert_eq!(guest.ask(SELECT).await, LOCKED);
        }
    }
    Ok(())
}

/// What it writes would have to exclude others, which its host forbids.
#[tokio::test]
async fn a_guest_that_may_only_share_locks_does_not_write() -> Result {
    let Some(program) = Program::of_ours("steps.c")? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut native = native(&program, folder.path(), "delete");
    let rights = Rights::SHARED;
    let mut guest = guest(&program, folder.path(), FsPerms::ReadWrite, rights).await?;
    assert_eq!(guest.ask("open 0 file:/data/db").await, "ok");
    assert_eq!(guest.ask(SELECT).await, "1");
    assert_eq!(guest.ask(INSERT).await, "3 access permission denied");
    assert_eq!(guest.ask(SELECT).await, "1");
    assert_eq!(native.ask(INSERT), "ok");
    assert_eq!(guest.ask(SELECT).await, "1 2");
    Ok(())
}
