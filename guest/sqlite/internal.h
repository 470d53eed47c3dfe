/* What the files of the VFS share. A component has one thread, and so has no mutexes. */
#ifndef LOCKET_SQLITE_INTERNAL_H
#define LOCKET_SQLITE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "locket_ranges.h"
#include "sqlite3.h"

/* The copy of a wal-index; see wal_index.c. */
typedef struct wal_index wal_index;

/* A database file, as far as the connections of this component share it: SQLite locks through one
 * connection and unlocks through another, and both are one owner for the host. */
typedef struct database {
    dev_t device;
    ino_t inode;
    int connections;
    locket_ranges_t ranges;
    int level;  /* The highest lock of all connections. */
    int shared; /* How many connections have a lock. */
    wal_index *index;
    struct database *next;
} database;

/* An open main database file. The file of the VFS below follows it in memory. */
typedef struct connection {
    sqlite3_file file;
    const char *path;
    /* The file that the path led to when it was opened. */
    dev_t device;
    ino_t inode;
    database *database; /* Once something was locked. */
    int level;
    int timeout; /* Milliseconds that a lock is waited for. */
    bool has_index;
    uint16_t index_shared;
    uint16_t index_exclusive;
} connection;

static inline sqlite3_file *real_file(sqlite3_file *file) { return (sqlite3_file *)((connection *)file + 1); }

/* Whether the path leads to another file by now, or to none. */
bool database_has_moved(const connection *connection);

/* Takes over what others have changed in the wal-indexes. */
void database_refresh(void);

/* Sets `database` of a connection. */
int database_use(connection *connection);

/* Ends the use, with all locks. */
void database_leave(connection *connection);

int file_lock(sqlite3_file *file, int level);
int file_unlock(sqlite3_file *file, int level);
int file_check_reserved(sqlite3_file *file, int *reserved);

int index_map(sqlite3_file *file, int region, int size, int extend, void volatile **mapped);
int index_lock(sqlite3_file *file, int first, int count, int flags);
void index_barrier(sqlite3_file *file);
int index_unmap(sqlite3_file *file, int remove);

/* A fence after which nothing has been read yet: walIndexTryHdr() has to begin with what is there now, or it
 * would never keep up with a fast writer. */
void index_refresh(wal_index *index);

/* Whether other processes or components use the index, too. */
int index_is_shared(const connection *connection, bool *is_shared);

/* The result code for a lock that was not granted; `code` if the system failed. */
int lock_result(locket_error error, int code);

/* Locks a range. If it is busy, the next lock_wait() waits for it. */
int lock_range(locket_ranges_t *ranges, locket_mode mode, locket_range range, int timeout, int code);

/* Waits until the range that was busy is free, for at most so many milliseconds. Whether it has waited: if
 * not, there is none, or only the connections here are in each other's way. */
bool lock_wait(int milliseconds);

/* The handle is about to be closed. */
void lock_forget(const locket_ranges_t *ranges);

#endif
