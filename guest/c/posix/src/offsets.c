#include "offsets.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(int error) {
    errno = error;
    return -1;
}

/* What l_start counts from. */
static off_t origin(int fd, int whence) {
    struct stat stat;
    switch (whence) {
    case SEEK_SET: return 0;
    case SEEK_CUR: return lseek(fd, 0, SEEK_CUR);
    case SEEK_END: return fstat(fd, &stat) ? -1 : stat.st_size;
    default: return failed(EINVAL);
    }
}

int locket_posix_span(int fd, const struct flock *lock, span *found) {
    off_t first = origin(fd, lock->l_whence), last;
    if (first < 0) return -1;
    if (__builtin_add_overflow(first, lock->l_start, &first)) return failed(EOVERFLOW);
    if (first < 0) return failed(EINVAL);
    if (lock->l_len > 0) {
        if (__builtin_add_overflow(first, lock->l_len - 1, &last)) return failed(EOVERFLOW);
    } else if (lock->l_len < 0) {
        /* The bytes before. */
        last = first - 1;
        first += lock->l_len;
        if (first < 0) return failed(EINVAL);
    } else {
        last = INT64_MAX;
    }
    if (lock->l_type != F_RDLCK && lock->l_type != F_WRLCK && lock->l_type != F_UNLCK)
        return failed(EINVAL);
    locket_mode mode = lock->l_type == F_WRLCK ? LOCKET_EXCLUSIVE : LOCKET_SHARED;
    *found = (span){(uint64_t)first, (uint64_t)last, mode};
    return 0;
}

void locket_posix_tell(span it, struct flock *lock) {
    *lock = (struct flock){
        .l_type = it.mode == LOCKET_EXCLUSIVE ? F_WRLCK : F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)it.first,
        .l_len = it.last == LAST_OFFSET ? 0 : (off_t)(it.last - it.first + 1),
        .l_pid = -1,
    };
}
