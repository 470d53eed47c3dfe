/* The locks of a rollback journal, as SQLite keeps them on Unix: three bytes ranges at 1 GiB, in which
 * no page of a database lies.
 *
 *   pending   locked in shared mode for a moment to get a shared lock; exclusively by a writer that
 *             waits for the readers to leave, so that no new ones come
 *   reserved  locked exclusively by the one connection that intends to write
 *   shared    locked in shared mode by readers, exclusively by the writer while it changes the file
 *
 * Within the component the connections are arbitrated here, since they are one owner for the host. */
#include <stdlib.h>
#include <sys/stat.h>

#include "internal.h"

static const locket_range pending = {0x40000000, 1};
static const locket_range reserved = {0x40000001, 1};
static const locket_range pending_and_reserved = {0x40000000, 2};
static const locket_range shared = {0x40000002, 510};
static const locket_range everything = {0, 0};

/* What SQLITE_LOCK_* has no name for in older versions. */
enum { NONE = SQLITE_LOCK_NONE, SHARED = SQLITE_LOCK_SHARED, RESERVED = SQLITE_LOCK_RESERVED };
enum { PENDING = SQLITE_LOCK_PENDING, EXCLUSIVE = SQLITE_LOCK_EXCLUSIVE };

static database *databases;

int lock_result(locket_error error, int code) {
    switch (error) {
    case LOCKET_OK:
        return SQLITE_OK;
    case LOCKET_WOULD_BLOCK:
    case LOCKET_DEADLOCK:
    case LOCKET_CANCELED:
        return SQLITE_BUSY;
    case LOCKET_TIMEOUT:
        return SQLITE_BUSY_TIMEOUT;
    case LOCKET_ACCESS_DENIED:
        return SQLITE_PERM;
    default:
        return code;
    }
}

int database_use(connection *c) {
    if (c->database) return SQLITE_OK;
    struct stat found;
    if (stat(c->path, &found) != 0) return SQLITE_IOERR_FSTAT;
    database *known = databases;
    while (known && (known->device != found.st_dev || known->inode != found.st_ino)) known = known->next;
    if (!known) {
        known = calloc(1, sizeof *known);
        if (!known) return SQLITE_NOMEM;
        int result = lock_result(locket_ranges_open(&known->ranges, c->path), SQLITE_IOERR_LOCK);
        if (result != SQLITE_OK) {
            free(known);
            return result;
        }
        known->device = found.st_dev;
        known->inode = found.st_ino;
        known->next = databases;
        databases = known;
    }
    known->connections++;
    c->database = known;
    return SQLITE_OK;
}

void database_leave(connection *c) {
    database *left = c->database;
    c->database = NULL;
    if (!left || --left->connections > 0) return;
    database **at = &databases;
    while (*at != left) at = &(*at)->next;
    *at = left->next;
    locket_ranges_close(&left->ranges);
    free(left);
}

static int lock(connection *c, locket_mode mode, locket_range range, int code) {
    return lock_result(locket_ranges_lock(&c->database->ranges, mode, range, c->timeout), code);
}

static int unlock(database *d, locket_range range) {
    return locket_ranges_unlock(&d->ranges, range) == LOCKET_OK ? SQLITE_OK : SQLITE_IOERR_UNLOCK;
}

/* The first shared lock of the component. */
static int lock_shared(connection *c) {
    int result = lock(c, LOCKET_SHARED, pending, SQLITE_IOERR_LOCK);
    if (result != SQLITE_OK) return result;
    result = lock(c, LOCKET_SHARED, shared, SQLITE_IOERR_LOCK);
    int unlocked = unlock(c->database, pending);
    if (result == SQLITE_OK && unlocked != SQLITE_OK) {
        unlock(c->database, shared);
        return unlocked;
    }
    return result;
}

int file_lock(sqlite3_file *file, int level) {
    connection *c = (connection *)file;
    if (c->level >= level) return SQLITE_OK;
    int result = database_use(c);
    if (result != SQLITE_OK) return result;
    database *d = c->database;
    /* Another connection here is on its way to write, or writes, or intends to as this one does. */
    if (c->level != d->level && (d->level >= PENDING || level > SHARED)) return SQLITE_BUSY;
    if (level == SHARED) {
        if (d->level == NONE) {
            result = lock_shared(c);
            if (result != SQLITE_OK) return result;
            d->level = SHARED;
        }
        d->shared++;
        c->level = SHARED;
        return SQLITE_OK;
    }
    if (level == RESERVED) {
        result = lock(c, LOCKET_EXCLUSIVE, reserved, SQLITE_IOERR_LOCK);
    } else {
        if (c->level < PENDING) {
            result = lock(c, LOCKET_EXCLUSIVE, pending, SQLITE_IOERR_LOCK);
            if (result != SQLITE_OK) return result;
            c->level = d->level = PENDING;
        }
        result = d->shared > 1 ? SQLITE_BUSY : lock(c, LOCKET_EXCLUSIVE, shared, SQLITE_IOERR_LOCK);
    }
    if (result == SQLITE_OK) c->level = d->level = level;
    return result;
}

int file_unlock(sqlite3_file *file, int level) {
    connection *c = (connection *)file;
    database *d = c->database;
    if (c->level <= level) return SQLITE_OK;
    int result = SQLITE_OK;
    if (c->level > SHARED) {
        /* A writer that keeps reading. */
        if (level == SHARED) {
            locket_error error = locket_ranges_lock(&d->ranges, LOCKET_SHARED, shared, 0);
            if (error != LOCKET_OK) return SQLITE_IOERR_RDLOCK;
        }
        result = unlock(d, pending_and_reserved);
        if (result != SQLITE_OK) return result;
        d->level = SHARED;
    }
    if (level == NONE && --d->shared == 0) {
        result = unlock(d, everything);
        d->level = NONE;
    }
    c->level = level;
    return result;
}

int file_check_reserved(sqlite3_file *file, int *is_reserved) {
    connection *c = (connection *)file;
    *is_reserved = 0;
    int result = database_use(c);
    if (result != SQLITE_OK) return result;
    if (c->database->level > SHARED) {
        *is_reserved = 1;
        return SQLITE_OK;
    }
    locket_conflict found;
    locket_error error = locket_ranges_query(&c->database->ranges, LOCKET_EXCLUSIVE, reserved, &found);
    if (error != LOCKET_OK) return SQLITE_IOERR_CHECKRESERVEDLOCK;
    *is_reserved = found.is_there;
    return SQLITE_OK;
}
