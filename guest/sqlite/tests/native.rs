//! In a native program the VFS is another name for SQLite's own: both exclude each other.
#![cfg(not(target_os = "wasi"))]

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::error::Error;

#[test]
fn it_locks_as_the_vfs_of_sqlite_does() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("locket-sqlite-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("app.db");
    let flags = OpenFlags::default();
    let unknown = Connection::open_with_flags_and_vfs(&path, flags, locket_sqlite::VFS);
    assert!(unknown.is_err());

    locket_sqlite::register_by_name()?;
    let mut ours = Connection::open_with_flags_and_vfs(&path, flags, locket_sqlite::VFS)?;
    ours.pragma_update(None, "journal_mode", "wal")?;
    // Again, and now as the default.
    locket_sqlite::register()?;
    let mut same = Connection::open(&path)?;
    let own = if cfg!(windows) { "win32" } else { "unix" };
    let mut theirs = Connection::open_with_flags_and_vfs(&path, flags, own)?;

    let held = ours.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for other in [&mut same, &mut theirs] {
        other.busy_timeout(std::time::Duration::ZERO)?;
        let refused = other.transaction_with_behavior(TransactionBehavior::Immediate);
        let code = refused.err().and_then(|error| error.sqlite_error_code());
        assert_eq!(code, Some(ErrorCode::DatabaseBusy));
    }
    held.commit()?;
    theirs.transaction_with_behavior(TransactionBehavior::Immediate)?;

    drop((ours, same, theirs));
    Ok(std::fs::remove_dir_all(folder)?)
}
