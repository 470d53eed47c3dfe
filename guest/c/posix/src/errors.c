/* Errors of the interface as `errno`. */
#include <errno.h>

#include "posix.h"

int locket_posix_result(locket_error error) {
    switch (error) {
    case LOCKET_OK: return 0;
    case LOCKET_WOULD_BLOCK: errno = EAGAIN; break;
    case LOCKET_DEADLOCK: errno = EDEADLK; break;
    /* Not EINTR, after which programs wait again: the host lets them wait no longer. */
    case LOCKET_TIMEOUT:
    case LOCKET_CANCELED: errno = ETIMEDOUT; break;
    /* Not EACCES, by which fcntl() says that another process holds the lock. */
    case LOCKET_ACCESS_DENIED: errno = EPERM; break;
    case LOCKET_INVALID_PATH: errno = EOPNOTSUPP; break;
    case LOCKET_NO_ENTRY:
    case LOCKET_IO_STALE: errno = ESTALE; break;
    case LOCKET_IO_NO_SPACE: errno = ENOSPC; break;
    case LOCKET_IO_QUOTA: errno = EDQUOT; break;
    case LOCKET_IO_READ_ONLY: errno = EROFS; break;
    case LOCKET_IO_TOO_MANY_FILES: errno = ENFILE; break;
    case LOCKET_IO_OTHER: errno = EIO; break;
    default: errno = ENOLCK; break;
    }
    return -1;
}
