//! A command component that appends to a database while other programs use it: `append DATABASE ROWS`.
//! Each row is one transaction, which counts it as well. Prints the count at the end.

use rusqlite::{Connection, TransactionBehavior};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [path, rows] = &arguments[..] else {
        return Err("append DATABASE ROWS".into());
    };
    locket_sqlite::register()?;

    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(60))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    for row in 0..rows.parse()? {
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.execute("insert into log values ('rust', ?1)", [row])?;
        change.execute("update total set rows = rows + 1", ())?;
        change.commit()?;
    }
    let total: i64 = db.query_row("select rows from total", (), |total| total.get(0))?;
    println!("{total}");
    Ok(())
}
