/* Record locks of this component, by inode. */
#ifndef LOCKET_RECORDS_H
#define LOCKET_RECORDS_H

#include "posix.h"

/* The locks of a file. The host has one owner for all of them, which is this component. So that the
 * owners within the component exclude one another as well, what each has locked is kept here. */
typedef struct inode inode;

/* Who owns a record lock: the process, or an open file description. */
typedef struct owner {
    inode *inode;
    spans *locked;
} owner;

/* The owner of locks that are set through a descriptor. On failure, -1 with `errno`. */
int locket_posix_owner(int fd, open_file *it, bool is_description, owner *found);

/* Locks and unlocks as F_SETLK does, or F_SETLKW. On failure, -1 with `errno`. */
int locket_posix_lock(owner it, span wanted, bool waits);
int locket_posix_unlock(owner it, uint64_t first, uint64_t last);

/* What excludes a span; `is_there` is false if nothing does. On failure, -1 with `errno`. */
int locket_posix_query(owner it, span wanted, span *found, bool *is_there);

#endif
