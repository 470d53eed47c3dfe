/* A component of `locket demo --sqlite`: increments a counter in a database, and notes each turn.
 *
 *   demo DATABASE VFS COUNT NAME */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "locket_sqlite.h"
#include "sqlite3.h"

static int fail(sqlite3 *db, const char *what) {
    fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
    return 1;
}

/* Whether a statement has been run to its end. */
static bool run(sqlite3_stmt *statement) {
    int result;
    do result = sqlite3_step(statement);
    while (result == SQLITE_ROW);
    return result == SQLITE_DONE && sqlite3_reset(statement) == SQLITE_OK;
}

int main(int arguments, char **argument) {
    if (arguments != 5) return 2;
    sqlite3 *db;
    if (locket_sqlite_register(0) != SQLITE_OK) return fail(NULL, "cannot register the VFS");
    if (sqlite3_open_v2(argument[1], &db, SQLITE_OPEN_READWRITE, argument[2]) != SQLITE_OK) {
        return fail(db, "cannot open the database");
    }
    sqlite3_busy_timeout(db, 60000);
    sqlite3_exec(db, "pragma synchronous = off", NULL, NULL, NULL);
    static const char *const sql[] = {"begin immediate", "update counter set n = n + 1",
                                      "insert into turns(name) values (?1)", "commit"};
    sqlite3_stmt *statements[4];
    for (int i = 0; i < 4; i++) {
        if (sqlite3_prepare_v2(db, sql[i], -1, &statements[i], NULL) != SQLITE_OK) return fail(db, sql[i]);
    }
    sqlite3_bind_text(statements[2], 1, argument[4], -1, SQLITE_STATIC);
    for (int count = atoi(argument[3]); count > 0; count--) {
        for (int i = 0; i < 4; i++) {
            if (!run(statements[i])) return fail(db, sql[i]);
        }
    }
    for (int i = 0; i < 4; i++) sqlite3_finalize(statements[i]);
    return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}
