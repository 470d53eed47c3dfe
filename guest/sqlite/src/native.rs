//! SQLite's own VFS has the locks that a component gets: here it has one more name.

use core::ffi::c_int;
use core::ptr;
use libsqlite3_sys as sqlite;
use std::sync::Once;

pub(crate) fn register(is_default: bool) -> c_int {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        // SAFETY: SQLite can be called from any thread, and what it finds is never freed. The copy
        // is not either.
        unsafe {
            let Some(own) = sqlite::sqlite3_vfs_find(ptr::null()).as_ref() else {
                return;
            };
            let alias = Box::leak(Box::new(*own));
            alias.pNext = ptr::null_mut();
            alias.zName = c"locket".as_ptr();
            sqlite::sqlite3_vfs_register(alias, 0);
        }
    });
    // SAFETY: as above.
    unsafe {
        let alias = sqlite::sqlite3_vfs_find(c"locket".as_ptr());
        if alias.is_null() {
            return sqlite::SQLITE_NOTFOUND;
        }
        sqlite::sqlite3_vfs_register(alias, is_default.into())
    }
}
