/* Counts in a database, or looks on: one of several processes and components that do so at once.
 *
 *   count DATABASE VFS init MODE       creates the tables, with this journal mode
 *   count DATABASE VFS WRITER COUNT    increments a counter and inserts (writer, number) in one
 *                                      transaction, and prints the number once that is committed, until
 *                                      it is COUNT; odd writers wait in SQLite, others ask again
 *   count DATABASE VFS read SECONDS    checks that in each snapshot the counter is the number of rows
 *
 * It also makes checkpoints of every kind, vacuums, rolls back and reconnects, at random. A violation is exit
 * status 4, an error 3. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "locket_sqlite.h"
#include "sqlite3.h"

static const char *path, *vfs;
static sqlite3 *db;
static unsigned seed;
static bool waits;

static unsigned dice(unsigned sides) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % sides;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s (%d)\n", what, sqlite3_errmsg(db), sqlite3_extended_errcode(db));
    exit(3);
}

/* Whether it succeeded; if not, the database is busy. SQLITE_PROTOCOL is that, too: if the header of the
 * wal-index is invalid, one that begins to write and one that makes a checkpoint wait for each other. */
static int run(const char *sql, int (*row)(void *, int, char **, char **), void *to) {
    int result = sqlite3_exec(db, sql, row, to, NULL);
    if (result != SQLITE_OK && (result & 0xff) != SQLITE_BUSY && result != SQLITE_PROTOCOL) fail(sql);
    return result == SQLITE_OK;
}

static void connect(void) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path, &db, flags, vfs) != SQLITE_OK) fail("open");
    sqlite3_busy_timeout(db, 60000);
#ifdef SQLITE_SETLK_BLOCK_ON_CONNECT
    /* The busy timeout has set this, too. */
    sqlite3_setlk_timeout(db, waits ? 60000 : 0, 0);
#endif
    /* Processes are killed here, and no machine. */
    run("pragma synchronous=off", NULL, NULL);
    char checkpoints[64];
    snprintf(checkpoints, sizeof checkpoints, "pragma wal_autocheckpoint=%u", 3 + dice(8));
    run(checkpoints, NULL, NULL);
}

static int first(void *to, int columns, char **values, char **names) {
    (void)names;
    snprintf(to, 64, "%s", columns && values[0] ? values[0] : "");
    return 0;
}

static void look_on(int seconds) {
    time_t end = time(NULL) + seconds;
    long looks = 0;
    while (time(NULL) < end) {
        char seen[64];
        if (!run("select (select n from counter) || ' ' || (select count(*) from log)"
                 " || ' ' || (select n from counter)",
                 first, seen))
            continue;
        long before, rows, after;
        if (sscanf(seen, "%ld %ld %ld", &before, &rows, &after) != 3 || before != rows || rows != after) {
            fprintf(stderr, "in one snapshot: %s\n", seen);
            exit(4);
        }
        looks++;
        if (dice(50) == 0) {
            sqlite3_close(db);
            connect();
        }
    }
    printf("%ld looks\n", looks);
}

static void write_all(int writer, int count) {
    static const char *const now_and_then[] = {
        "pragma wal_checkpoint(passive)", "pragma wal_checkpoint(full)",
        "pragma wal_checkpoint(restart)", "pragma wal_checkpoint(truncate)"};
    char sql[192];
    /* The last number may be one of a process that was killed before it knew that it had committed. */
    snprintf(sql, sizeof sql,
             "update counter set n = n + 1;"
             "insert into log select %d, coalesce(max(number), 0) + 1 from log where writer = %d"
             " returning number",
             writer, writer);
    for (int number = 0; number < count;) {
        char inserted[64];
        if (!run("begin immediate", NULL, NULL)) continue;
        if (!run(sql, first, inserted) || dice(20) == 0 || !run("commit", NULL, NULL)) {
            run("rollback", NULL, NULL);
            continue;
        }
        number = atoi(inserted);
        printf("%d\n", number);
        fflush(stdout);
        unsigned what = dice(40);
        if (what < 4) run(now_and_then[what], NULL, NULL);
        if (what == 4) {
            sqlite3_close(db);
            connect();
        }
        if (dice(500) == 0) run("vacuum", NULL, NULL);
    }
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    path = arguments[1];
    vfs = arguments[2];
    const char *role = arguments[3];
    seed = (unsigned)time(NULL) * 31u + (unsigned)atoi(role) * 7919u + 1u;
    if (locket_sqlite_register(0) != SQLITE_OK) return 3;
    waits = atoi(role) % 2;
    connect();
    if (strcmp(role, "init") == 0) {
        char sql[64];
        snprintf(sql, sizeof sql, "pragma journal_mode=%s", arguments[4]);
        run(sql, NULL, NULL);
        run("create table counter(n); insert into counter values (0);"
            "create table log(writer, number, primary key(writer, number))",
            NULL, NULL);
    } else if (strcmp(role, "read") == 0) {
        look_on(atoi(arguments[4]));
    } else {
        write_all(atoi(role), atoi(arguments[4]));
    }
    return sqlite3_close(db) == SQLITE_OK ? 0 : 3;
}
