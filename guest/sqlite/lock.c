/* The locks of a rollback journal, as SQLite keeps them on Unix: three ranges of bytes at 1 GiB, in a page
 * of the database that SQLite leaves out.
 *
 *   pending   locked in shared mode for a moment to get a shared lock; exclusively by a writer that
 *             waits for the readers to leave, so that no new ones come
 *   reserved  locked exclusively by the one connection that intends to write
 *   shared    locked in shared mode by readers, exclusively by the writer while it changes the file
 *
 * Within the component the connections are arbitrated here, since they are one owner for the host.
 *
 * SQLite's busy handlers ask again and again, and sleep in between. Here that sleep is a wait for the lock
 * that was busy, and so ends when it is free. */
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "internal.h"

static const locket_range pending = {0x40000000, 1};
static const locket_range reserved = {0x40000001, 1};
static const locket_range pending_and_reserved = {0x40000000, 2};
static const locket_range shared = {0x40000002, 510};
static const locket_range everything = {0, 0};

enum { NONE = SQLITE_LOCK_NONE, SHARED = SQLITE_LOCK_SHARED, RESERVED = SQLITE_LOCK_RESERVED };
enum { PENDING = SQLITE_LOCK_PENDING, EXCLUSIVE = SQLITE_LOCK_EXCLUSIVE };

static database *databases;

/* The lock that was busy last. */
static struct {
    locket_ranges_t *ranges;
    locket_mode mode;
    locket_range range;
    bool was_shared; /* The component has it in shared mode. */
    /* Milliseconds since it was free: how long was waited for it, and how much less that was than asked for. */
    int64_t waited;
    int64_t saved;
} busy;

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

int lock_range(locket_ranges_t *ranges, locket_mode mode, locket_range range, int timeout, int code) {
    locket_error error = locket_ranges_lock(ranges, mode, range, timeout);
    busy.ranges = NULL;
    if (error == LOCKET_OK && busy.range.start == range.start) busy.waited = busy.saved = 0;
    if (error == LOCKET_WOULD_BLOCK) {
        busy.ranges = ranges;
        busy.mode = mode;
        busy.range = range;
        busy.was_shared = false;
    }
    return lock_result(error, code);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

bool lock_wait(int milliseconds) {
    locket_ranges_t *ranges = busy.ranges;
    busy.ranges = NULL;
    /* A busy handler adds up for how long it has asked to sleep: if others are always faster, it would give up
     * early. So it does at half of the time, but no earlier. */
    if (!ranges || busy.saved > busy.waited) {
        busy.waited += milliseconds;
        return false;
    }
    int64_t start = now();
    locket_error error = locket_ranges_lock(ranges, busy.mode, busy.range, milliseconds);
    int64_t waited = now() - start;
    if (error == LOCKET_OK && busy.was_shared) {
        locket_ranges_lock(ranges, LOCKET_SHARED, busy.range, 0);
    } else if (error == LOCKET_OK) {
        locket_ranges_unlock(ranges, busy.range);
    } else if (error != LOCKET_TIMEOUT) {
        return false;
    }
    busy.waited += waited;
    if (waited < milliseconds) busy.saved += milliseconds - waited;
    return true;
}

void lock_forget(const locket_ranges_t *ranges) {
    if (busy.ranges == ranges) busy.ranges = NULL;
}

bool database_has_moved(const connection *c) {
    struct stat found;
    return stat(c->path, &found) != 0 || found.st_dev != c->device || found.st_ino != c->inode;
}

int database_use(connection *c) {
    if (c->database) return SQLITE_OK;
    database *known = databases;
    while (known && (known->device != c->device || known->inode != c->inode)) known = known->next;
    if (!known) {
        known = calloc(1, sizeof *known);
        if (!known) return SQLITE_NOMEM;
        int result = lock_result(locket_ranges_open(&known->ranges, c->path), SQLITE_IOERR_LOCK);
        /* The lock is opened by the path. */
        if (result == SQLITE_OK && database_has_moved(c)) {
            locket_ranges_close(&known->ranges);
            result = SQLITE_READONLY_DBMOVED;
        }
        if (result != SQLITE_OK) {
            free(known);
            return result;
        }
        known->device = c->device;
        known->inode = c->inode;
        known->next = databases;
        databases = known;
    }
    known->connections++;
    c->database = known;
    return SQLITE_OK;
}

void database_refresh(void) {
    for (database *known = databases; known; known = known->next) {
        if (known->index) index_refresh(known->index);
    }
}

void database_leave(connection *c) {
    database *left = c->database;
    c->database = NULL;
    if (!left || --left->connections > 0) return;
    database **at = &databases;
    while (*at != left) at = &(*at)->next;
    *at = left->next;
    lock_forget(&left->ranges);
    locket_ranges_close(&left->ranges);
    free(left);
}

static int lock(connection *c, locket_mode mode, locket_range range) {
    return lock_range(&c->database->ranges, mode, range, c->timeout, SQLITE_IOERR_LOCK);
}

static int unlock(database *d, locket_range range) {
    return locket_ranges_unlock(&d->ranges, range) == LOCKET_OK ? SQLITE_OK : SQLITE_IOERR_UNLOCK;
}

/* The first shared lock of the component. */
static int lock_shared(connection *c) {
    int result = lock(c, LOCKET_SHARED, pending);
    if (result != SQLITE_OK) return result;
    result = lock(c, LOCKET_SHARED, shared);
    int unlocked = unlock(c->database, pending);
    if (result == SQLITE_OK && unlocked != SQLITE_OK) {
        unlock(c->database, shared);
        return unlocked;
    }
    return result;
}

/* The exclusive lock of a component that has the shared one. */
static int lock_all(connection *c) {
    int result = lock(c, LOCKET_EXCLUSIVE, shared);
    busy.was_shared = true;
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
    if (level == EXCLUSIVE && c->level == RESERVED) {
        result = lock(c, LOCKET_EXCLUSIVE, pending);
        if (result != SQLITE_OK) return result;
        c->level = d->level = PENDING;
    }
    /* Other connections here still read. */
    if (level == EXCLUSIVE && d->shared > 1) return SQLITE_BUSY;
    /* In WAL mode SQLite does this to remove the index. Its other users hold locks of the database; this is
     * in case that they have lost them. */
    bool is_shared;
    result = index_is_shared(c, &is_shared);
    if (result != SQLITE_OK) return result;
    if (is_shared) return SQLITE_BUSY;
    result = level == RESERVED ? lock(c, LOCKET_EXCLUSIVE, reserved) : lock_all(c);
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
        /* A later wait must not take the shared lock back. */
        if (busy.ranges == &d->ranges) busy.was_shared = false;
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
