/* The bytes that a struct flock names. */
#ifndef LOCKET_OFFSETS_H
#define LOCKET_OFFSETS_H

#include <fcntl.h>

#include "posix.h"

#define LAST_OFFSET ((uint64_t)INT64_MAX)

/* Finds the bytes and checks the type. On failure, -1 with `errno`. */
int locket_posix_span(int fd, const struct flock *lock, span *found);

/* Tells a lock, from the start of the file. Who holds it stays unsaid. */
void locket_posix_tell(span it, struct flock *lock);

#endif
