//! A command component that appends to a database while other programs use it: `append DATABASE ROWS`.
//! Each row is one transaction. Prints how many there are at the end.

use rusqlite::{Connection, TransactionBehavior};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [path, rows] = &arguments[..] else {
        return Err("usage: append DATABASE ROWS".into());
    };
    locket_sqlite::register()?;

    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(60))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    let table = "create table if not exists log (number integer primary key, writer)";
    db.execute(table, ())?;
    for _ in 0..rows.parse()? {
        // Immediate, since it reads what it writes: no other program writes in between.
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = "select coalesce(max(number), 0) from log";
        let last: i64 = change.query_row(last, (), |row| row.get(0))?;
        change.execute("insert into log values (?1, 'rust')", [last + 1])?;
        change.commit()?;
    }
    let count: i64 = db.query_row("select count(*) from log", (), |row| row.get(0))?;
    println!("{count}");
    Ok(())
}
