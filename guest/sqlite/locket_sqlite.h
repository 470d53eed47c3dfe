/* SQLite in a component, on databases that native programs use at the same time: a VFS whose locks are
 * those of SQLite on Unix, and which has the write-ahead log without shared memory. */
#ifndef LOCKET_SQLITE_H
#define LOCKET_SQLITE_H

#ifdef __cplusplus
extern "C" {
#endif

/* Registers the VFS `locket`, as the default if `is_default` is not 0. Returns a result code of SQLite.
 * Further calls change only which VFS is the default. */
int locket_sqlite_register(int is_default);

/* The same as the default, for a build of SQLite with -DSQLITE_EXTRA_INIT=locket_sqlite_init. */
int locket_sqlite_init(const char *unused);

#ifdef __cplusplus
}
#endif
#endif
