/* A command component that appends to a database while other programs use it: append DATABASE ROWS.
 * Each row is one transaction. Prints how many there are at the end. */
#include <stdio.h>
#include <stdlib.h>

#include "locket_sqlite.h"
#include "sqlite3.h"

static sqlite3 *db;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static void run(const char *sql, int (*row)(void *, int, char **, char **)) {
    if (sqlite3_exec(db, sql, row, NULL, NULL) != SQLITE_OK) fail(sql);
}

static int print(void *unused, int columns, char **values, char **names) {
    (void)unused, (void)columns, (void)names;
    puts(values[0]);
    return 0;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fputs("usage: append DATABASE ROWS\n", stderr);
        return 2;
    }
    if (locket_sqlite_register(1) != SQLITE_OK) fail("register");

    if (sqlite3_open(arguments[1], &db) != SQLITE_OK) fail("open");
    sqlite3_busy_timeout(db, 60000);
    run("pragma journal_mode=wal", NULL);
    run("create table if not exists log (number integer primary key, writer)", NULL);
    for (long rows = atol(arguments[2]); rows > 0; rows--) {
        /* Immediate, since it reads what it writes: no other program writes in between. */
        run("begin immediate", NULL);
        run("insert into log select coalesce(max(number), 0) + 1, 'c' from log", NULL);
        run("commit", NULL);
    }
    run("select count(*) from log", print);
    return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}
