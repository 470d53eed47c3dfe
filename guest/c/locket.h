/*
 * File locks for WebAssembly components, shared with other guests and native processes on the host.
 *
 *     locket_t lock;
 *     locket_error error = locket_open(&lock, "/jobs/app.lock");
 *     if (error == LOCKET_OK) error = locket_acquire(&lock, LOCKET_EXCLUSIVE, 30000);
 *     if (error != LOCKET_OK) fprintf(stderr, "%s\n", locket_strerror(error));
 *
 * Every function that returns a locket_error returns LOCKET_OK on success. A lock belongs to a file,
 * not to a path, and its owner is this component: two handles to one file are one lock. Locks are
 * advisory. When a component ends, for whatever reason, its locks are released.
 */
#ifndef LOCKET_H
#define LOCKET_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A handle to the lock of one file. All zeros means closed. Do not copy it. */
typedef struct locket_handle {
    int32_t handle;
} locket_t;

/* Why a call did not succeed. */
typedef enum locket_error {
    LOCKET_OK = 0,
    LOCKET_WOULD_BLOCK,    /* The timeout was 0, and the lock is held. */
    LOCKET_TIMEOUT,        /* A nonzero timeout ran out. */
    LOCKET_NOT_LOCKED,     /* Release of a lock that has no holder. */
    LOCKET_NOT_OWNER,      /* Release of a lock that another owner holds. */
    LOCKET_DEADLOCK,       /* Waiting could never end: this component itself holds the lock. */
    LOCKET_ACCESS_DENIED,  /* The host does not grant it, or the file's permissions refuse it. */
    LOCKET_NO_ENTRY,       /* The file or its directory does not exist and may not be created. */
    LOCKET_INVALID_PATH,   /* Empty, too long, outside its grant, or not a regular file. */
    LOCKET_LIMIT_EXCEEDED, /* This component has reached one of its quotas. */
    LOCKET_NOT_SUPPORTED,  /* The protocol, mode or file system does not support it. */
    LOCKET_UNAVAILABLE,    /* The server that keeps the lock cannot be reached. */
    LOCKET_CANCELED,       /* The host canceled the wait. */
    LOCKET_OTHER,          /* Any other failure. */
    LOCKET_CLOSED,         /* The handle is closed. */

    /* The component held the lock and no longer holds it: */
    LOCKET_LOST_EXPIRED,      /* the time for which it was granted ran out; */
    LOCKET_LOST_BROKEN,       /* it was taken away; */
    LOCKET_LOST_DISCONNECTED, /* its server cannot be reached; */
    LOCKET_LOST_IO,           /* its file system failed. */

    /* I/O failed: */
    LOCKET_IO_NO_SPACE,       /* the file system is full; */
    LOCKET_IO_QUOTA,          /* the disk quota is used up; */
    LOCKET_IO_READ_ONLY,      /* the file system is read-only; */
    LOCKET_IO_STALE,          /* the file vanished on its server; */
    LOCKET_IO_TOO_MANY_FILES, /* the host is out of file descriptors; */
    LOCKET_IO_TOO_MANY_LOCKS, /* the kernel is out of locks; */
    LOCKET_IO_OTHER,          /* anything else. */
} locket_error;

/* Describes an error for people, for example "access to the lock is denied". */
const char *locket_strerror(locket_error error);

/* The name of an error as the interface spells it, such as "would-block" or "lost broken". */
const char *locket_error_name(locket_error error);

/* The kind of access that a hold grants, and thus which other holds it excludes. */
typedef enum locket_mode {
    LOCKET_EXCLUSIVE, /* Excludes every other hold (a writer). */
    LOCKET_SHARED,    /* Excludes only exclusive holds (a reader). */
} locket_mode;

/* The locking mechanism, and thus which other programs the lock excludes; see wit/lock.wit. */
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

/* How to open a lock. All zeros means the same as locket_open. */
typedef struct locket_options {
    locket_protocol protocol;
    bool remove_on_release; /* Whether to remove the file when the lock is released. */
} locket_options;

/* Opens the lock of the file at `path`, and creates the file if it is missing and may be created.
 * Does not acquire the lock. On failure, `lock` is closed. */
locket_error locket_open(locket_t *lock, const char *path);

/* Like locket_open, with options; NULL for none. */
locket_error locket_open_with(locket_t *lock, const char *path, const locket_options *options);

/* Closes the handle and releases the holds acquired through it. Does nothing to a closed handle. */
void locket_close(locket_t *lock);

/* The timeout that waits indefinitely. As with poll(), every negative timeout does. */
#define LOCKET_FOREVER (-1)

/* Acquires the lock: immediately if it is free, otherwise waits for at most `timeout` milliseconds.
 * 0 tries once. The longest timeout is about 49 days; longer ones are shortened to that. The lock
 * stays held until it is released or the handle is closed. */
locket_error locket_acquire(locket_t *lock, locket_mode mode, int64_t timeout);

/* Releases one hold. If the hold had been lost, returns that error but releases it nonetheless. */
locket_error locket_release(locket_t *lock);

/* Whether the lock is held, by this component or another holder. */
locket_error locket_is_locked(const locket_t *lock, bool *is_locked);

typedef enum locket_hold_state {
    LOCKET_UNLOCKED,  /* Not held. */
    LOCKET_HELD,      /* Held. */
    LOCKET_UNCERTAIN, /* The host cannot determine whether it is still held. */
    LOCKET_LOST,      /* Was held, was not released, and is no longer held. */
} locket_hold_state;

/* The state of this component's own hold. */
typedef struct locket_state {
    locket_hold_state is;
    locket_error lost; /* If lost: one of LOCKET_LOST_…. */
    bool has_token;    /* If held: whether the hold has a fencing token. */
    uint64_t token;
    int64_t left; /* If held or uncertain: milliseconds until it can count as lost, or LOCKET_FOREVER. */
} locket_state;

/* Performs no I/O. The state of a closed handle is LOCKET_UNLOCKED. */
locket_state locket_get_state(const locket_t *lock);

/* A holder of a lock. */
typedef struct locket_holder {
    bool is_held;  /* Whether the lock is held. If not, the rest is zeros. */
    bool is_self;  /* Whether the holder is this component. */
    bool has_mode; /* Whether the system reports the mode. */
    locket_mode mode;
    char *label; /* The label that the host gave to the holder; NULL for foreign processes. */
} locket_holder;

/* Finds one of the current holders of the lock. Free the result with locket_holder_free. */
locket_error locket_get_holder(const locket_t *lock, locket_holder *holder);

/* Frees the label and sets the struct to all zeros. */
void locket_holder_free(locket_holder *holder);

/* How far a lock reaches: which other programs it can exclude. */
typedef enum locket_scope {
    LOCKET_SCOPE_HOST,                /* Programs on this host. */
    LOCKET_SCOPE_CLUSTER_FILE_SYSTEM, /* Programs on every host that mounts this cluster file system. */
    LOCKET_SCOPE_CLUSTER,             /* Clients of one lock server. */
} locket_scope;

/* The guarantees that a lock provides. */
typedef struct locket_guarantee {
    locket_scope scope;
    bool fifo;    /* Whether grants follow the order of arrival, within the limits in wit/lock.wit. */
    bool fencing; /* Whether grants carry a fencing token. */
    int64_t ttl;  /* Milliseconds after which a hold can be lost without a release, or LOCKET_FOREVER. */
} locket_guarantee;

/* Performs no I/O. */
locket_error locket_get_guarantee(const locket_t *lock, locket_guarantee *guarantee);

/* A hold that ends with its scope:
 *
 *     LOCKET_SCOPED locket_guard guard = locket_hold(&lock, LOCKET_EXCLUSIVE, 30000);
 *     if (guard.error != LOCKET_OK) return guard.error;
 *
 * It is released on every way out of the block except longjmp(). */
typedef struct locket_guard {
    locket_t *lock;     /* NULL if nothing is held. */
    locket_error error; /* The result of acquiring the lock. */
} locket_guard;

locket_guard locket_hold(locket_t *lock, locket_mode mode, int64_t timeout);

/* Releases the lock before the end of the scope and reports errors. */
locket_error locket_guard_release(locket_guard *guard);

/* Like locket_guard_release, but ignores errors. Used by LOCKET_SCOPED. */
void locket_guard_end(locket_guard *guard);

/* Put this before the declaration of a guard to release it at the end of the block. */
#define LOCKET_SCOPED __attribute__((cleanup(locket_guard_end)))

/* Put this before the declaration of a handle to close it at the end of the block. The handle must
 * be open or all zeros then. */
#define LOCKET_CLOSING __attribute__((cleanup(locket_close)))

#ifdef __cplusplus
}
#endif
#endif
