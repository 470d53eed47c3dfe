//! Write-ahead logs.

use crate::same;

#[test]
fn a_reader_of_an_old_snapshot_cannot_write() {
    same(
        "A0 open
        A0 pragma journal_mode=wal
        A0 create table t(n); insert into t values (1)
        B0 open
        A0 begin
        A0 select * from t
        B0 insert into t values (2)
        A0 select * from t
        A0 insert into t values (3)
        A0 rollback
        A0 insert into t values (3)
        B0 begin immediate
        A0 begin
        A0 insert into t values (4)
        A0 select * from t
        B0 commit
        A0 insert into t values (4)
        A0 commit
        A0 begin
        A0 select count(*) from t
        A1 open
        A1 insert into t values (5)
        A0 insert into t values (6)
        A0 commit
        B0 select * from t
        ! list",
        &[
            "517 database is locked",
            "5 database is locked",
            "1 2 3 4 5",
        ],
    );
}

#[test]
fn checkpoints_wait_for_readers_and_writers() {
    for kind in ["passive", "full", "restart", "truncate"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode=wal
            A0 create table t(n); insert into t values (1)
            B0 open
            B0 begin
            B0 select * from t
            A0 insert into t values (2)
            A0 pragma wal_checkpoint({kind})
            A0 insert into t values (3)
            A0 pragma wal_checkpoint({kind})
            A0 wait poll 20
            A0 pragma wal_checkpoint({kind})
            A0 wait poll 0
            B0 select * from t
            B0 commit
            B0 begin
            B0 select * from t
            A0 pragma wal_checkpoint({kind})
            B0 commit
            B0 begin immediate
            A0 pragma wal_checkpoint({kind})
            B0 insert into t values (4)
            A0 pragma wal_checkpoint({kind})
            B0 commit
            A0 pragma wal_checkpoint({kind})
            A1 open
            A1 begin
            A1 select * from t
            B0 insert into t values (5)
            A0 pragma wal_checkpoint({kind})
            B0 pragma wal_checkpoint({kind})
            A1 insert into t values (6)
            A1 commit
            B0 pragma wal_checkpoint({kind})
            A1 insert into t values (6)
            B0 pragma integrity_check
            A0 select * from t
            A0 close
            A1 close
            ! list
            B0 close
            ! list"
        );
        let busy = if kind == "passive" { "0|" } else { "1|" };
        same(&script, &[busy, "1 2 3 4 5 6"]);
    }
}

#[test]
fn the_journal_mode_changes_only_for_one_alone() {
    same(
        "A0 open
        A0 pragma journal_mode=wal
        A0 create table t(n); insert into t values (1)
        B0 open
        B0 select * from t
        A0 pragma journal_mode=delete
        B0 pragma journal_mode=truncate
        B0 begin
        B0 select * from t
        A0 pragma journal_mode=delete
        B0 commit
        B0 close
        ! list
        A0 pragma journal_mode=delete
        ! list
        A0 insert into t values (2)
        B0 open
        B0 begin
        B0 select * from t
        A0 pragma journal_mode=wal
        B0 commit
        A0 pragma journal_mode=wal
        B0 select * from t
        B0 insert into t values (3)
        A1 open
        A1 select * from t
        B0 close
        A0 pragma journal_mode=delete
        A1 close
        A0 pragma journal_mode=delete
        A0 select * from t
        B0 open
        B0 pragma journal_mode
        ! list",
        &["5 database is locked", "wal", "delete", "1 2 3"],
    );
}

/// An exclusive mode has the index in memory if it is set before the database is used.
#[test]
fn an_exclusive_locking_mode_keeps_others_out() {
    same(
        "A0 open
        A0 pragma journal_mode=wal
        A0 create table t(n); insert into t values (1)
        A0 close
        A0 open
        A0 pragma locking_mode=exclusive
        A0 insert into t values (2)
        ! list
        B0 open
        B0 select * from t
        A0 close
        B0 select * from t
        ! list
        A0 open
        A0 select * from t
        A0 pragma locking_mode=exclusive
        A0 insert into t values (3)
        B0 select * from t
        B0 insert into t values (4)
        A0 pragma locking_mode=normal
        A0 select * from t
        B0 insert into t values (5)
        A0 select * from t",
        &["5 database is locked", "1 2 4 5"],
    );
}

#[test]
fn a_log_of_a_dead_process_is_recovered() {
    for (dies, by) in [("A", "B"), ("B", "A")] {
        let script = format!(
            "{dies}0 open
            {dies}0 pragma journal_mode=wal
            {dies}0 pragma wal_autocheckpoint=0
            {dies}0 create table t(n); insert into t values (1)
            {dies}0 insert into t values (2)
            {dies}0 pragma cache_size=5
            {dies}0 begin
            {dies}0 insert into t select zeroblob(90000) from t
            {dies}0 insert into t select zeroblob(90000) from t
            {dies}0 insert into t select zeroblob(90000) from t
            {dies}0 dies
            ! list
            {by}0 open
            {by}0 select * from t
            {by}0 insert into t values (3)
            {by}0 pragma integrity_check
            {dies}0 open
            {dies}0 select * from t
            {by}0 dies
            {dies}0 insert into t values (4)
            {by}0 open mode=ro
            {by}0 select * from t
            {by}0 insert into t values (5)
            {dies}0 close
            {by}0 close
            ! list"
        );
        same(&script, &["1 2 3 4", "8 "]);
    }
}

#[test]
fn a_schema_change_is_seen() {
    same(
        "A0 open
        A0 pragma journal_mode=wal
        A0 create table t(n); insert into t values (1)
        B0 open
        B0 begin
        B0 select * from t
        A0 alter table t add column m default 7
        A0 create index i on t(m)
        B0 select * from t
        B0 commit
        B0 select * from t
        B0 drop index i
        A0 pragma index_list(t)
        A0 pragma user_version=5
        B0 pragma user_version
        A0 savepoint s
        A0 insert into t values (2, 2)
        A0 savepoint r
        A0 delete from t
        A0 rollback to r
        A0 release s
        B0 select * from t",
        &["1|7", "5", "1|7 2|2"],
    );
}
