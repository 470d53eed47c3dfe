/* flock(). The owner of a lock is the open file description. */
#include <errno.h>
#include <sys/file.h>

#include "posix.h"

static int unlock(open_file *it) {
    if (!it->is_locked) return 0;
    it->is_locked = false;
    return locket_posix_result(locket_release(&it->lock));
}

int flock(int fd, int operation) {
    open_file *it = locket_posix_find(fd, EOPNOTSUPP);
    if (!it) return -1;
    locket_mode mode;
    switch (operation & ~LOCK_NB) {
    case LOCK_EX: mode = LOCKET_EXCLUSIVE; break;
    case LOCK_SH: mode = LOCKET_SHARED; break;
    case LOCK_UN: return unlock(it);
    default: errno = EINVAL; return -1;
    }
    if (!locket_posix_is_same(fd, it)) {
        unlock(it);
        return locket_posix_result(LOCKET_NO_ENTRY);
    }
    /* The host may have revoked the lock. */
    if (it->is_locked && it->mode == mode && locket_get_state(&it->lock).is == LOCKET_HELD) return 0;
    /* Linux, too, releases a lock before it converts it, and may then fail to acquire it again. */
    if (unlock(it)) return -1;

    locket_error error = LOCKET_OK;
    if (!it->lock.handle) error = locket_posix_open_lock(fd, it, &it->lock);
    int64_t timeout = operation & LOCK_NB ? 0 : LOCKET_FOREVER;
    if (!error) error = locket_acquire(&it->lock, mode, timeout);
    if (error) return locket_posix_result(error);
    it->is_locked = true;
    it->mode = mode;
    /* Another program may have replaced the file during the wait. */
    if (locket_posix_is_same(fd, it)) return 0;
    unlock(it);
    return locket_posix_result(LOCKET_NO_ENTRY);
}
