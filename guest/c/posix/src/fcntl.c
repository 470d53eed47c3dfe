/*
 * fcntl() with record locks.
 *
 * In the library of WASI 0.1, fcntl() is in an object of its own, so the function of this file replaces
 * it without a linker flag, and does the little that it did. With a library that has descriptors, the
 * linker wraps it (`-Wl,--wrap=fcntl`).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <wasi/api.h>

#include "offsets.h"
#include "records.h"

#ifdef LOCKET_DESCRIPTORS
int __real_fcntl(int fd, int command, ...);
#define fcntl __wrap_fcntl
#else
static int __real_fcntl(int fd, int command, int argument) {
    __wasi_fdstat_t of;
    __wasi_errno_t error;
    switch (command) {
    case F_GETFD: return FD_CLOEXEC;
    case F_SETFD: return 0;
    case F_GETFL: {
        error = __wasi_fd_fdstat_get((__wasi_fd_t)fd, &of);
        if (error) break;
        __wasi_rights_t rights = of.fs_rights_base;
        int flags = of.fs_flags;
        if (rights & (__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR)) flags |= O_RDONLY;
        if (rights & __WASI_RIGHTS_FD_WRITE) flags |= O_WRONLY;
        return flags & O_RDWR ? flags : flags | O_SEARCH;
    }
    case F_SETFL:
        error = __wasi_fd_fdstat_set_flags((__wasi_fd_t)fd, argument & 0xfff);
        if (error) break;
        return 0;
    default: error = EINVAL;
    }
    errno = error;
    return -1;
}
#endif

int locket_posix_flags(int fd) { return __real_fcntl(fd, F_GETFL, 0); }

static int failed(int error) {
    errno = error;
    return -1;
}

static int get(int fd, open_file *it, struct flock *lock, bool is_description) {
    span wanted, found;
    owner owner;
    bool is_there;
    if (lock->l_type == F_UNLCK) return failed(EINVAL);
    if (locket_posix_span(fd, lock, &wanted)) return -1;
    if (is_description && lock->l_pid) return failed(EINVAL);
    if (locket_posix_owner(fd, it, is_description, &owner)) return -1;
    if (locket_posix_query(owner, wanted, &found, &is_there)) return -1;
    if (is_there)
        locket_posix_tell(found, lock);
    else
        lock->l_type = F_UNLCK;
    return 0;
}

static int set(int fd, open_file *it, const struct flock *lock, bool is_description, bool waits) {
    span wanted;
    owner owner;
    if (locket_posix_span(fd, lock, &wanted)) return -1;
    int needed = lock->l_type == F_RDLCK ? O_RDONLY : lock->l_type == F_WRLCK ? O_WRONLY : 0;
    int flags = locket_posix_flags(fd);
    if (flags < 0) return -1;
    if ((flags & needed) != needed) return failed(EBADF);
    if (is_description && lock->l_pid) return failed(EINVAL);
    if (locket_posix_owner(fd, it, is_description, &owner)) return -1;
    if (lock->l_type == F_UNLCK) return locket_posix_unlock(owner, wanted.first, wanted.last);
    return locket_posix_lock(owner, wanted, waits);
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    struct flock *lock = NULL;
    int argument = 0;
    open_file *it = NULL;
    switch (command) {
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        lock = va_arg(arguments, struct flock *);
        it = locket_posix_find(fd, EINVAL);
        break;
    case F_GETFD:
    case F_GETFL: break;
    default: argument = va_arg(arguments, int);
    }
    va_end(arguments);
    if (lock && !it) return -1;
    switch (command) {
    case F_GETLK: return get(fd, it, lock, false);
    case F_SETLK: return set(fd, it, lock, false, false);
    case F_SETLKW: return set(fd, it, lock, false, true);
    case F_OFD_GETLK: return get(fd, it, lock, true);
    case F_OFD_SETLK: return set(fd, it, lock, true, false);
    case F_OFD_SETLKW: return set(fd, it, lock, true, true);
    default: return __real_fcntl(fd, command, argument);
    }
}
