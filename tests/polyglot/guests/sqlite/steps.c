/* Obeys lines, so that tests and benchmarks can compare what becomes of the same steps on different VFSes.
 *
 *   steps VFS            reads a line, and answers with one, again and again:
 *
 *   open C URI           opens a connection, which has the number C
 *   close C
 *   sql C SQL            answers with the rows, or with the extended result code and the message
 *   moved C              whether the file of the database has another name by now, or none
 *   wait C HOW MILLIS    waits for a busy database: `queue` in one for locks, `poll` by asking again
 *   sleep C MILLIS      by sqlite3_sleep()
 *   at C SQL             answers with the time when it is done, in nanoseconds
 *   write C COUNT        answers with the nanoseconds that a transaction takes, of so many
 *   until C FILE         has one transaction after the other until the file exists */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "locket_sqlite.h"
#include "sqlite3.h"

enum { CONNECTIONS = 10, LINE = 1 << 12 };

static sqlite3 *connections[CONNECTIONS];
static char answer[1 << 16];
static const char *vfs;

static void say(const char *text) {
    size_t said = strlen(answer);
    snprintf(answer + said, sizeof answer - said, "%s", text);
}

static void say_number(long long number) {
    char text[32];
    snprintf(text, sizeof text, "%lld", number);
    say(text);
}

static void say_error(sqlite3 *db) {
    answer[0] = '\0';
    say_number(sqlite3_extended_errcode(db));
    say(" ");
    say(sqlite3_errmsg(db));
}

static int row(void *unused, int columns, char **values, char **names) {
    (void)unused;
    (void)names;
    if (answer[0]) say(" ");
    for (int column = 0; column < columns; column++) {
        if (column > 0) say("|");
        say(values[column] ? values[column] : "null");
    }
    return 0;
}

static bool run(sqlite3 *db, const char *sql) {
    if (sqlite3_exec(db, sql, row, NULL, NULL) == SQLITE_OK) return true;
    say_error(db);
    return false;
}

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

/* Whether it was committed; a database that stays busy is an error. */
static bool write_once(sqlite3 *db) {
    return run(db, "begin immediate; update counter set n = n + 1;"
                   "insert into log select n from counter; commit");
}

static void write_some(sqlite3 *db, long count) {
    long long start = now(CLOCK_MONOTONIC);
    for (long number = 0; number < count; number++) {
        if (!write_once(db)) return;
    }
    say_number((now(CLOCK_MONOTONIC) - start) / count);
}

static void write_until(sqlite3 *db, const char *file) {
    long long written = 0;
    for (; access(file, F_OK) != 0; written++) {
        if (!write_once(db)) return;
    }
    say_number(written);
}

static void wait_for(sqlite3 *db, const char *how) {
    int millis = atoi(strchr(how, ' '));
    sqlite3_busy_timeout(db, millis);
    sqlite3_setlk_timeout(db, strncmp(how, "queue", 5) == 0 ? millis : 0, 0);
    say("ok");
}

static void open_database(sqlite3 **db, const char *uri) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
    if (sqlite3_open_v2(uri, db, flags, vfs) == SQLITE_OK) {
        say("ok");
    } else {
        say_error(*db);
    }
}

static void close_database(sqlite3 **db) {
    if (sqlite3_close(*db) == SQLITE_OK) {
        *db = NULL;
        say("ok");
    } else {
        say_error(*db);
    }
}

static void obey(const char *command, sqlite3 **db, const char *rest) {
    answer[0] = '\0';
    if (strcmp(command, "open") == 0) {
        open_database(db, rest);
    } else if (strcmp(command, "close") == 0) {
        close_database(db);
    } else if (strcmp(command, "sql") == 0) {
        if (run(*db, rest) && !answer[0]) say("ok");
    } else if (strcmp(command, "moved") == 0) {
        int moved = -1;
        sqlite3_file_control(*db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
        say_number(moved);
    } else if (strcmp(command, "wait") == 0) {
        wait_for(*db, rest);
    } else if (strcmp(command, "sleep") == 0) {
        sqlite3_sleep(atoi(rest));
        say("ok");
    } else if (strcmp(command, "at") == 0) {
        if (run(*db, rest)) say_number(now(CLOCK_REALTIME));
    } else if (strcmp(command, "write") == 0) {
        write_some(*db, atol(rest));
    } else if (strcmp(command, "until") == 0) {
        write_until(*db, rest);
    } else {
        exit(2);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    vfs = arguments[1];
    /* Functions that name no database, such as sqlite3_sleep(), use the default. */
    if (locket_sqlite_register(strcmp(vfs, "locket") == 0) != SQLITE_OK) return 2;
    static char line[LINE];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char command[16];
        unsigned number;
        int read = 0;
        if (sscanf(line, "%15s %u%n", command, &number, &read) != 2 || number >= CONNECTIONS) return 2;
        obey(command, &connections[number], line[read] ? line + read + 1 : "");
        puts(answer);
        fflush(stdout);
    }
    for (int number = 0; number < CONNECTIONS; number++) sqlite3_close(connections[number]);
    return 0;
}
