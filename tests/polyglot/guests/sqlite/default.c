/* What SQLite's own test programs are linked with, and in a component compiled with -Dmain=sqlite_main: there
 * the VFS is the default. */
#include "locket_sqlite.h"
#include "sqlite3.h"

/* This build of SQLite has none. */
int sqlite3_enable_load_extension(sqlite3 *db, int is_enabled) {
    (void)db;
    return is_enabled ? SQLITE_ERROR : SQLITE_OK;
}

#ifdef __wasi__
int sqlite_main(int count, char **arguments);

#undef main
int main(int count, char **arguments) {
    if (locket_sqlite_register(1) != SQLITE_OK) return 3;
    return sqlite_main(count, arguments);
}

/* There is no shell. */
int system(const char *command) {
    (void)command;
    return -1;
}
#endif
