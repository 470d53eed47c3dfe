/* lockf(), by fcntl(). */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int lockf(int fd, int function, off_t size) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = size};
    switch (function) {
    case F_TEST:
        /* As in other libraries: locks that are shared do not count. */
        lock.l_type = F_RDLCK;
        if (fcntl(fd, F_GETLK, &lock)) return -1;
        if (lock.l_type == F_UNLCK) return 0;
        errno = EACCES;
        return -1;
    case F_ULOCK: lock.l_type = F_UNLCK; /* fall through */
    case F_TLOCK: return fcntl(fd, F_SETLK, &lock);
    case F_LOCK: return fcntl(fd, F_SETLKW, &lock);
    default: errno = EINVAL; return -1;
    }
}
