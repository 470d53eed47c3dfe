//! Databases that are only read, or can only be read.

use crate::same;

#[test]
fn a_connection_that_only_reads() {
    for mode in ["delete", "wal"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode={mode}
            A0 create table t(n); insert into t values (1)
            B0 open mode=ro
            B0 insert into t values (2)
            B0 begin
            B0 select * from t
            A0 delete from t where n = 2
            B0 select * from t
            B0 pragma wal_checkpoint
            B0 commit
            A0 insert into t values (3)
            B0 select * from t
            A0 close
            B0 select * from t
            ! list
            B0 close
            ! list
            B0 open mode=ro
            B0 select * from t
            ! list
            B1 open mode=rw
            B1 insert into t values (4)
            B0 select * from t
            B2 open mode=ro&cache=private&nolock=1
            B2 select * from t"
        );
        same(&script, &["8 attempt to write", "1 3 4"]);
    }
}

/// It takes no locks, and sees what it has seen once.
#[test]
fn an_immutable_database() {
    for mode in ["delete", "wal"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode={mode}
            A0 create table t(n); insert into t values (1)
            A0 pragma wal_checkpoint
            B0 open immutable=1
            B0 select * from t
            A0 begin exclusive
            A0 insert into t values (2)
            B0 select * from t
            B0 insert into t values (3)
            A0 commit
            A0 close
            B0 close
            ! list"
        );
        same(&script, &["1", "8 attempt to write"]);
    }
}

#[test]
fn an_index_that_is_only_read() {
    same(
        "A0 open
        A0 pragma journal_mode=wal
        A0 create table t(n); insert into t values (1)
        B0 open readonly_shm=1
        B0 select * from t
        A0 insert into t values (2)
        B0 select * from t
        B0 begin
        B0 select * from t
        A0 insert into t values (3)
        A0 pragma wal_checkpoint(truncate)
        B0 select * from t
        B0 commit
        B0 select * from t
        B0 insert into t values (4)
        A0 pragma wal_checkpoint(truncate)
        A0 insert into t values (4)
        B0 select * from t
        B0 close
        A0 close
        ! list",
        &["1 2 3 4"],
    );
}

/// No process has begun the index, and this one cannot: it reads the log by itself.
#[test]
fn an_index_that_is_only_read_and_was_never_begun() {
    same(
        "A0 open
        A0 pragma journal_mode=wal
        A0 create table t(n); insert into t values (1)
        A0 insert into t values (2)
        ! copy db other
        ! copy db-wal other-wal
        A0 close
        B0 open readonly_shm=1
        B0 select * from t
        ! copy other db
        ! copy other-wal db-wal
        B1 open readonly_shm=1
        B1 select * from t
        A0 open
        A0 select * from t
        B1 select * from t
        A0 insert into t values (3)
        B1 select * from t
        A0 pragma wal_checkpoint(truncate)
        B1 select * from t
        A0 insert into t values (4)
        B1 begin
        B1 select * from t
        A0 insert into t values (5)
        B1 select * from t
        B1 commit
        B1 select * from t",
        &["1 2 3 4 5"],
    );
}

#[test]
fn a_user_that_may_only_read_the_file() {
    for mode in ["delete", "wal"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode={mode}
            A0 create table t(n); insert into t values (1)
            ! unprivileged
            B0 open
            B0 select * from t
            B0 insert into t values (2)
            A0 insert into t values (2)
            B0 begin
            B0 select * from t
            A0 insert into t values (3)
            A0 pragma wal_checkpoint(truncate)
            B0 select * from t
            B0 commit
            B0 select * from t
            B0 pragma journal_mode=delete
            A0 begin exclusive
            B0 select * from t
            A0 commit
            A0 close
            B0 select * from t
            B0 close
            ! list
            B1 open
            B1 select * from t
            B2 open immutable=1
            B2 select * from t
            B3 open mode=rwc
            B3 select * from t
            ! list"
        );
        same(&script, &["1", "8 attempt to write a readonly database"]);
    }
}

#[test]
fn a_user_that_may_write_the_file_but_not_the_folder() {
    for mode in ["delete", "wal"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode={mode}
            A0 create table t(n); insert into t values (1)
            ! permit 666 db
            ! unprivileged
            B0 open
            B0 select * from t
            B0 insert into t values (2)
            B0 select * from t
            A0 insert into t values (3)
            A0 close
            B0 select * from t
            B0 insert into t values (2)
            B0 close
            ! list
            B1 open
            B1 select * from t
            B1 pragma journal_mode=wal
            B1 pragma journal_mode=persist
            B1 insert into t values (4)"
        );
        same(&script, &["1"]);
    }
}

#[test]
fn a_database_that_is_renamed_or_removed_while_it_is_open() {
    for mode in ["delete", "wal"] {
        let script = format!(
            "A0 open
            A0 pragma journal_mode={mode}
            A0 create table t(n); insert into t values (1)
            A0 moved
            ! rename db other
            A0 moved
            A0 select * from t
            A0 insert into t values (2)
            ! rename other db
            A0 moved
            A0 insert into t values (3)
            A0 select * from t
            ! remove db
            A0 moved
            A0 insert into t values (4)
            B0 open
            B0 select * from t
            B0 create table t(n)
            A0 moved
            A0 select * from t
            A0 insert into t values (5)"
        );
        same(&script, &["1", "0"]);
    }
}
