/* Locks on ranges of a file's bytes: POSIX record locks, which exclude fcntl() and lockf() of every
 * program. The owner is the component: all that it opens of one file is one. */
#ifndef LOCKET_RANGES_H
#define LOCKET_RANGES_H

#include "locket.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A handle on a file whose ranges are locked. All zeros means closed. Do not copy a handle that is
 * open. */
typedef struct locket_ranges {
    int32_t handle;
} locket_ranges_t;

/* A range of bytes, which need not exist. */
typedef struct locket_range {
    uint64_t start;
    uint64_t length; /* 0 for all bytes from `start` on, however long the file becomes. */
} locket_range;

/* Opens the file at `path`, and creates it if it is missing and may be created. It stays the file that
 * is locked, whatever becomes of its path. On failure, `ranges` is closed. */
locket_error locket_ranges_open(locket_ranges_t *ranges, const char *path);

/* Closes the handle. The last handle on a file takes the component's locks on its ranges with it. Does
 * nothing to a closed handle. */
void locket_ranges_close(locket_ranges_t *ranges);

/* Locks a range, and converts what the component has locked of it. Waits for at most `timeout`
 * milliseconds, as locket_acquire does. If it fails, nothing has changed. */
locket_error locket_ranges_lock(locket_ranges_t *ranges, locket_mode mode, locket_range range,
                                int64_t timeout);

/* Unlocks a range. It is no error if nothing of it is locked. */
locket_error locket_ranges_unlock(locket_ranges_t *ranges, locket_range range);

/* A lock that another owner holds. */
typedef struct locket_conflict {
    bool is_there; /* If not, the rest is zeros. */
    locket_mode mode;
    locket_range range;
} locket_conflict;

/* Finds a lock of another owner that excludes `mode` in the range. */
locket_error locket_ranges_query(const locket_ranges_t *ranges, locket_mode mode, locket_range range,
                                 locket_conflict *conflict);

#ifdef __cplusplus
}
#endif
#endif
