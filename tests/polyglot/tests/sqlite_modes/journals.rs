//! Rollback journals.

use crate::same;

/// A journal in each mode, between two processes.
fn journal(mode: &str) {
    let script = format!(
        "A0 open
        A0 pragma journal_mode={mode}
        A0 create table t(n); insert into t values (1)
        B0 open
        B0 pragma journal_mode={mode}
        B0 insert into t values (2)
        ! list
        A0 begin immediate
        A0 insert into t values (3)
        ! list
        B0 select sum(n) from t
        B0 begin immediate
        B0 begin
        B0 select sum(n) from t
        A0 commit
        B0 select sum(n) from t
        B0 commit
        A0 commit
        B0 select sum(n) from t
        B0 begin; insert into t values (4); commit
        A0 select sum(n) from t
        A0 pragma integrity_check
        A0 close
        B0 close
        ! list"
    );
    same(&script, &["5 database is locked", "6", "10"]);
}

#[test]
fn a_journal_that_is_deleted() {
    journal("delete");
}

#[test]
fn a_journal_that_is_truncated() {
    journal("truncate");
}

#[test]
fn a_journal_that_is_kept() {
    journal("persist");
}

#[test]
fn a_journal_in_memory() {
    journal("memory");
}

#[test]
fn no_journal() {
    journal("off");
}

#[test]
fn a_writer_waits_for_readers_and_new_ones_wait_for_it() {
    same(
        "A0 open
        A0 create table t(n); insert into t values (1)
        A0 begin
        A0 select * from t
        B0 open
        B0 begin
        B0 insert into t values (2)
        B0 commit
        A1 open
        A1 select * from t
        B1 open
        B1 select * from t
        A0 select * from t
        A0 commit
        B0 commit
        A1 select * from t
        B1 select * from t",
        &["5 database is locked", "1 2"],
    );
}

#[test]
fn two_readers_that_both_want_to_write() {
    same(
        "A0 open
        A0 create table t(n); insert into t values (1)
        B0 open
        A0 begin
        A0 select * from t
        B0 begin
        B0 select * from t
        A0 insert into t values (2)
        B0 insert into t values (3)
        A0 commit
        B0 rollback
        A0 commit
        B0 select * from t",
        &["5 database is locked", "1 2"],
    );
}

#[test]
fn connections_of_one_process_exclude_each_other() {
    same(
        "A0 open
        A0 create table t(n); insert into t values (1)
        A1 open
        B0 open
        A0 begin
        A0 select * from t
        A1 begin
        A1 select * from t
        B0 begin
        B0 select * from t
        A0 insert into t values (2)
        A1 insert into t values (3)
        B0 insert into t values (4)
        A0 commit
        A1 commit
        A0 commit
        B0 commit
        A0 commit
        A1 select * from t
        A0 begin exclusive
        A1 select * from t
        B0 select * from t
        A0 rollback
        A1 begin immediate
        A0 begin immediate
        A0 select * from t
        A1 rollback
        A0 begin immediate
        A0 rollback",
        &["5 database is locked", "1 2"],
    );
}

/// POSIX would drop the locks of a process as soon as it closes any descriptor of the file.
#[test]
fn a_connection_that_closes_leaves_the_locks_of_others() {
    same(
        "A0 open
        A0 create table t(n); insert into t values (1)
        A0 begin immediate
        A1 open
        A1 select * from t
        A1 close
        B0 open
        B0 begin immediate
        A0 insert into t values (2)
        A0 commit
        A0 begin
        A0 select * from t
        A2 open
        A2 select * from t
        A2 close
        B0 begin exclusive
        A0 commit
        B0 begin exclusive
        B0 rollback",
        &["5 database is locked", "1 2"],
    );
}

/// The transaction is larger than the cache, so that the database is changed before it ends.
#[test]
fn a_journal_of_a_dead_process_is_rolled_back() {
    for (dies, by) in [("A", "B"), ("B", "A")] {
        let script = format!(
            "A0 open
            A0 create table t(n, filler); insert into t values (1, zeroblob(100000))
            B0 open
            {dies}0 pragma cache_size=5
            {dies}0 begin
            {dies}0 update t set n = n + 1, filler = zeroblob(90000)
            {dies}0 insert into t select n, filler from t
            {dies}0 insert into t select n, filler from t
            {dies}0 insert into t select n, filler from t
            {by}0 select count(*) from t
            ! list
            {dies}0 dies
            {by}1 open mode=ro
            {by}1 select count(*), sum(n) from t
            {by}0 select count(*), sum(n) from t
            {by}1 select count(*), sum(n) from t
            {by}0 pragma integrity_check
            ! list"
        );
        same(&script, &["5 database is locked", "776 ", "1|1"]);
    }
}

#[test]
fn a_transaction_in_two_databases_is_one() {
    same(
        "A0 open
        A0 attach 'file:FOLDER/second' as second
        A0 create table t(n); create table second.s(n)
        B0 open
        B0 attach 'file:FOLDER/second' as second
        A0 begin
        A0 insert into t values (1); insert into s values (1)
        B0 select count(*) from s
        B0 begin
        B0 select count(*) from s
        A0 commit
        B0 commit
        A0 commit
        B0 select count(*) from s
        B0 select count(*) from t
        ! list",
        &["5 database is locked", "1"],
    );
}

#[test]
fn vacuum_waits_for_readers() {
    for mode in ["delete", "wal"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode={mode}
            A0 create table t(n, filler); insert into t values (1, zeroblob(100000)), (2, 'x')
            A0 delete from t where n = 1
            B0 open
            B0 begin
            B0 select n from t
            A0 vacuum
            B0 select n from t
            B0 commit
            A0 vacuum
            B0 pragma page_count
            A0 begin immediate
            B0 vacuum
            A0 commit
            B0 pragma page_size=8192
            B0 vacuum
            A0 pragma page_size
            A0 pragma integrity_check
            B0 pragma auto_vacuum=incremental
            B0 vacuum
            A0 insert into t values (1, zeroblob(100000))
            A0 delete from t where n = 1
            B0 pragma freelist_count
            B0 pragma incremental_vacuum(5)
            A0 pragma freelist_count"
        );
        same(&script, &["5 database is locked", "2"]);
    }
}

#[test]
fn an_exclusive_locking_mode_keeps_others_out() {
    same(
        "A0 open
        A0 create table t(n); insert into t values (1)
        B0 open
        B0 select n from t
        A0 pragma locking_mode=exclusive
        A0 select n from t
        B0 insert into t values (2)
        A0 insert into t values (3)
        B0 select n from t
        A1 open
        A1 select n from t
        A0 pragma locking_mode=normal
        B0 select n from t
        A0 select n from t
        B0 select n from t
        A1 select n from t",
        &["5 database is locked", "1 3"],
    );
}

/// A wait after a rollback, such as a pause before the next attempt, takes no lock.
#[test]
fn a_sleep_after_a_rollback_locks_nothing() {
    same(
        "A0 open
        A0 create table t(n)
        B0 open
        B0 begin
        B0 select count(*) from t
        A0 begin
        A0 insert into t values (1)
        A0 commit
        A0 rollback
        B0 commit
        A0 sleep 10
        B0 begin exclusive
        B0 rollback",
        &["5 database is locked"],
    );
}
