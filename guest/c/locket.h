/*
 * File locks for WebAssembly components, shared with every other guest and native process of the
 * host.
 *
 *     locket_t lock;
 *     locket_error error = locket_open(&lock, "/jobs/app.lock");
 *     if (error == LOCKET_OK) error = locket_acquire(&lock, LOCKET_EXCLUSIVE, 30000);
 *     if (error != LOCKET_OK) fprintf(stderr, "%s\n", locket_strerror(error));
 *
 * Every function that returns a locket_error returns LOCKET_OK where it succeeds. A lock belongs to a
 * file, not to a path, and its owner is this component: two handles on one file are one lock. Locks
 * are advisory. When a component ends, however it ends, its locks are free.
 */
#ifndef LOCKET_H
#define LOCKET_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A handle on the lock of one file. All zeros: closed. Not to be copied. */
typedef struct locket_handle {
    int32_t handle;
} locket_t;

/* Why a call did not succeed. */
typedef enum locket_error {
    LOCKET_OK = 0,
    LOCKET_WOULD_BLOCK,    /* The timeout was 0, and the lock is held by another. */
    LOCKET_TIMEOUT,        /* A timeout other than 0 ran out. */
    LOCKET_NOT_LOCKED,     /* Release of a lock that nobody holds. */
    LOCKET_NOT_OWNER,      /* Release of a lock that somebody else holds. */
    LOCKET_DEADLOCK,       /* Waiting could never end: this component itself holds the lock. */
    LOCKET_ACCESS_DENIED,  /* Not granted by the host, or refused by the file's permissions. */
    LOCKET_NO_ENTRY,       /* The file or its directory is not there and may not be created. */
    LOCKET_INVALID_PATH,   /* Empty, too long, out of its grant, or not of a regular file. */
    LOCKET_LIMIT_EXCEEDED, /* A quota of this component is used up. */
    LOCKET_NOT_SUPPORTED,  /* The protocol, mode or file system cannot do it. */
    LOCKET_UNAVAILABLE,    /* The server that keeps the lock cannot be reached. */
    LOCKET_CANCELED,       /* The host withdrew the wait. */
    LOCKET_OTHER,          /* Anything else. */
    LOCKET_CLOSED,         /* The handle is closed. */

    /* The lock was held and is not any more: */
    LOCKET_LOST_EXPIRED,      /* the time for which it was granted ran out; */
    LOCKET_LOST_BROKEN,       /* it was taken away; */
    LOCKET_LOST_DISCONNECTED, /* its server cannot be reached; */
    LOCKET_LOST_IO,           /* its file system failed. */

    /* Input or output failed: */
    LOCKET_IO_NO_SPACE,       /* the file system is full; */
    LOCKET_IO_QUOTA,          /* the disk quota is used up; */
    LOCKET_IO_READ_ONLY,      /* the file system is read-only; */
    LOCKET_IO_STALE,          /* the file vanished on its server; */
    LOCKET_IO_TOO_MANY_FILES, /* the host is out of file descriptors; */
    LOCKET_IO_TOO_MANY_LOCKS, /* the kernel is out of locks; */
    LOCKET_IO_OTHER,          /* anything else. */
} locket_error;

/* The error as a phrase for people, such as "the lock is held by another". */
const char *locket_strerror(locket_error error);

/* The error as the interface spells it, such as "would-block" or "lost broken". */
const char *locket_error_name(locket_error error);

/* What a hold excludes. */
typedef enum locket_mode {
    LOCKET_EXCLUSIVE, /* Every other hold: a writer. */
    LOCKET_SHARED,    /* Exclusive holds only: a reader. */
} locket_mode;

/* How a lock is kept, and so who else takes part in it; see wit/lock.wit. */
typedef enum locket_protocol {
    LOCKET_PROTOCOL_DEFAULT, /* The host's choice. */
    LOCKET_PROTOCOL_NATIVE,
    LOCKET_PROTOCOL_FLOCK,
    LOCKET_PROTOCOL_FCNTL,
    LOCKET_PROTOCOL_LINK,
    LOCKET_PROTOCOL_SYMLINK,
    LOCKET_PROTOCOL_MKDIR,
    LOCKET_PROTOCOL_PID_FILE,
    LOCKET_PROTOCOL_SOFT,
    LOCKET_PROTOCOL_SQLITE,
} locket_protocol;

/* How to open a lock. All zeros: as locket_open does. */
typedef struct locket_options {
    locket_protocol protocol;
    bool remove_on_release; /* Whether the file goes away when the lock is released. */
} locket_options;

/* Opens the lock of the file at `path`, and creates the file where it is missing and may be created.
 * Does not acquire it. Where it fails, `lock` is closed. */
locket_error locket_open(locket_t *lock, const char *path);

/* The same, with options; NULL for none. */
locket_error locket_open_with(locket_t *lock, const char *path, const locket_options *options);

/* Closes the handle, and releases what was acquired through it. A closed handle stays as it is. */
void locket_close(locket_t *lock);

/* The timeout that waits for ever; as for poll(), every negative one does. */
#define LOCKET_FOREVER (-1)

/* Acquires the lock: at once if it is free, otherwise waits at most for `timeout` milliseconds; 0 is
 * one try, and what is longer than 49 days is cut to that. It stays held until it is released, or
 * the handle closed. */
locket_error locket_acquire(locket_t *lock, locket_mode mode, int64_t timeout);

/* Releases one hold. Where it had been lost, says so, and it is released all the same. */
locket_error locket_release(locket_t *lock);

/* Whether anybody holds the lock, this component included. */
locket_error locket_is_locked(const locket_t *lock, bool *is_locked);

typedef enum locket_hold_state {
    LOCKET_UNLOCKED,  /* Not held. */
    LOCKET_HELD,      /* Held. */
    LOCKET_UNCERTAIN, /* Cannot be told. */
    LOCKET_LOST,      /* Was held, was not released, and is held no more. */
} locket_hold_state;

/* What this component knows of its own hold. */
typedef struct locket_state {
    locket_hold_state is;
    locket_error lost; /* If lost: one of LOCKET_LOST_…. */
    bool has_token;    /* If held: whether there is a fencing token. */
    uint64_t token;
    int64_t left; /* If held or uncertain: milliseconds until it can count as lost, or FOREVER. */
} locket_state;

/* Does no input or output. A closed handle is unlocked. */
locket_state locket_get_state(const locket_t *lock);

/* One of those who hold a lock. */
typedef struct locket_holder {
    bool is_held;  /* Whether anybody does. If not, the rest is zeros. */
    bool is_self;  /* Whether it is this component. */
    bool has_mode; /* Whether the system tells the mode. */
    locket_mode mode;
    char *label; /* The name that the host gave to the holder; NULL for foreign processes. */
} locket_holder;

/* Finds one of those who hold the lock now. What was found takes locket_holder_free. */
locket_error locket_get_holder(const locket_t *lock, locket_holder *holder);

/* Frees the label, and makes it all zeros. */
void locket_holder_free(locket_holder *holder);

/* Whom a lock excludes. */
typedef enum locket_scope {
    LOCKET_SCOPE_HOST,                /* Everybody on this host. */
    LOCKET_SCOPE_CLUSTER_FILE_SYSTEM, /* Everybody who mounts this cluster file system. */
    LOCKET_SCOPE_CLUSTER,             /* Every client of one lock server. */
} locket_scope;

/* What a lock is worth. */
typedef struct locket_guarantee {
    locket_scope scope;
    bool fifo;    /* Whether grants follow the order of arrival, as far as wit/lock.wit says. */
    bool fencing; /* Whether grants carry a fencing token. */
    int64_t ttl;  /* Milliseconds after which a hold can be lost without a release, or FOREVER. */
} locket_guarantee;

/* Does no input or output. */
locket_error locket_get_guarantee(const locket_t *lock, locket_guarantee *guarantee);

/* A hold that ends with a scope:
 *
 *     LOCKET_SCOPED locket_guard guard = locket_hold(&lock, LOCKET_EXCLUSIVE, 30000);
 *     if (guard.error != LOCKET_OK) return guard.error;
 *
 * It is released on every way out of the block, but not by longjmp(). */
typedef struct locket_guard {
    locket_t *lock;     /* NULL where nothing is held. */
    locket_error error; /* How it went. */
} locket_guard;

locket_guard locket_hold(locket_t *lock, locket_mode mode, int64_t timeout);

/* Ends the hold early, and says how that went. */
locket_error locket_guard_release(locket_guard *guard);

/* The same without a word, for LOCKET_SCOPED. */
void locket_guard_end(locket_guard *guard);

/* Before the declaration of a guard: releases it at the end of the block. */
#define LOCKET_SCOPED __attribute__((cleanup(locket_guard_end)))

/* Before the declaration of a handle that is open or all zeros: closes it at the end of the block. */
#define LOCKET_CLOSING __attribute__((cleanup(locket_close)))

#ifdef __cplusplus
}
#endif
#endif
