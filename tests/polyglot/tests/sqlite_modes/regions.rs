//! A log so long that its index has several regions.

use locket_tests::process::Process;
use polyglot::sqlite::program::{Program, Side};
use std::fs;

use crate::Result;

/// A page each.
const ROWS: u32 = 1500;
const VERSIONS: u32 = 12;

/// Every row is changed in each transaction, which is larger than the cache; a reader finds all rows equal.
fn every_snapshot_is_whole(writes: Side, reads: Side) -> Result {
    let Some(program) = Program::of_ours("steps.c")? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let data = folder.path();
    let start = |side: Side| {
        let mut process = Process::spawn(side.command(&program, data).arg(side.vfs()));
        let open = format!("open 0 file:{}/db", side.folder(data));
        assert_eq!(process.ask(&open), "ok");
        process
    };
    let mut writer = start(writes);
    for sql in [
        "pragma journal_mode=wal".to_owned(),
        "pragma wal_autocheckpoint=0; pragma synchronous=off; pragma cache_size=50".to_owned(),
        "create table t(id integer primary key, version, filler)".to_owned(),
        format!(
            "with c(n) as (select 1 union all select n + 1 from c where n < {ROWS}) \
             insert into t select n, 0, zeroblob(4000) from c"
        ),
    ] {
        writer.ask(&format!("sql 0 {sql}"));
    }
    let mut reader = start(reads);
    let worker = std::thread::spawn(move || {
        for _ in 0..VERSIONS {
            let answer = writer.ask("sql 0 update t set version = version + 1");
            assert_eq!(answer, "ok");
        }
        writer
    });
    let mut newest = 0;
    while !worker.is_finished() {
        let look = "sql 0 select count(*), count(distinct version), min(version) from t";
        assert_eq!(reader.ask("sql 0 begin"), "ok");
        let seen = reader.ask(look);
        let (whole, version) = seen.rsplit_once('|').expect("it is a row");
        assert_eq!(whole, format!("{ROWS}|1"));
        let version: u32 = version.parse()?;
        assert!(version >= newest, "{version} after {newest}");
        newest = version;
        assert_eq!(reader.ask(look), seen);
        assert_eq!(reader.ask("sql 0 commit"), "ok");
    }
    let mut writer = worker.join().expect("it does not panic");
    let index = fs::metadata(data.join("db-shm"))?.len();
    assert!(index >= 4 * 32768, "{index}");

    // The other one writes now, in regions that it did not begin.
    let total = "select sum(version) from t";
    for (sql, answer) in [
        ("update t set version = version + 1 where id = 1", "ok"),
        (total, "18001"),
        ("pragma integrity_check", "ok"),
    ] {
        assert_eq!(reader.ask(&format!("sql 0 {sql}")), answer);
    }
    assert_eq!(writer.ask(&format!("sql 0 {total}")), "18001");
    assert_eq!(writer.ask("sql 0 pragma wal_checkpoint(truncate)"), "0|0|0");
    assert_eq!(reader.ask(&format!("sql 0 {total}")), "18001");
    assert_eq!(writer.ask("sql 0 pragma integrity_check"), "ok");
    Ok(())
}

#[test]
fn a_component_writes_a_long_log_and_a_process_reads_it() -> Result {
    every_snapshot_is_whole(Side::Component, Side::Native)
}

#[test]
fn a_process_writes_a_long_log_and_a_component_reads_it() -> Result {
    every_snapshot_is_whole(Side::Native, Side::Component)
}
