/* What the files of this folder share. */
#ifndef LOCKET_POSIX_H
#define LOCKET_POSIX_H

#include <stddef.h>

#include "../../locket.h"
#include "../../locket_ranges.h"

/* Bytes that are locked in one mode. The last one is included. */
typedef struct span {
    uint64_t first, last;
    locket_mode mode;
} span;

/* What one owner has locked of a file, in the order of the bytes; neighbors in one mode are one. */
typedef struct spans {
    span *items;
    size_t count, room;
} spans;

struct inode;

/* An open file description, as far as locks are concerned. All zeros has none. */
typedef struct open_file {
    char *path; /* By which it was opened; unless the library has descriptors of WASI. */

    locket_t lock; /* Opened by the first flock(). */
    bool is_locked;
    locket_mode mode; /* If locked. */

    struct inode *inode; /* Found by the first fcntl() that concerns locks. */
    struct open_file *next; /* Of the same inode. */
    spans locked; /* By F_OFD_SETLK. */
} open_file;

/* spans.c */

/* Makes room for `more` spans. False if memory runs out. */
bool locket_spans_reserve(spans *these, size_t more);

/* Takes bytes out. Needs room for one span. */
void locket_spans_remove(spans *these, uint64_t first, uint64_t last);

/* Puts bytes in, in a mode. Needs room for two spans. */
void locket_spans_insert(spans *these, span added);

/* The first span with one of these bytes. */
const span *locket_spans_find(const spans *these, uint64_t first, uint64_t last);

/* The first span that excludes this one; NULL if there is none. */
const span *locket_spans_conflict(const spans *these, span wanted);

/* records.c */

/* What becomes of locks before a descriptor is closed: POSIX releases all record locks of a process on
 * a file as soon as the process closes any descriptor of it. */
void locket_posix_closing(int fd);

/* What becomes of locks at the end of an open file description. All of it is zeros then. */
void locket_posix_closed(open_file *it);

/* paths.c or descriptors.c */

/* The open file description of a descriptor. On failure, NULL with `errno`, which is `unlockable` if the
 * descriptor is no file that can be locked. */
open_file *locket_posix_find(int fd, int unlockable);

/* Opens what an open file is locked by. */
locket_error locket_posix_open_lock(int fd, const open_file *it, locket_t *lock);
locket_error locket_posix_open_ranges(int fd, const open_file *it, locket_ranges_t *ranges);

/* Whether the lock that was opened is still that of the file. */
bool locket_posix_is_same(int fd, const open_file *it);

/* errors.c */

/* -1 with `errno`; 0 if there is no error. */
int locket_posix_result(locket_error error);

/* fcntl.c */

/* The flags of a descriptor, as F_GETFL returns them. */
int locket_posix_flags(int fd);

#endif
