/*
 * flock() for unmodified Unix programs: compile them with `-I posix`, and link this file before the
 * files of the program.
 *
 * A lock is opened by path, and WASI does not report the path of a descriptor. But in the C library of
 * WASI 0.1, one function opens every path, for open(), openat() and fopen(), and another closes every
 * descriptor. Each is in an object of its own in the library, so the functions of this file replace
 * them without a linker flag. They record the paths.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc.h>

#include "locket.h"

/* What is known of a descriptor. All zeros means nothing. */
typedef struct file {
    char *path;
    locket_t lock; /* Opened by the first flock(). */
    bool is_held;
    locket_mode mode; /* If held. */
} file;

static file *files; /* By descriptor. */
static size_t file_count;

static file *find(int fd) {
    bool is_known = fd >= 0 && (size_t)fd < file_count && files[fd].path;
    return is_known ? &files[fd] : NULL;
}

static void forget(int fd) {
    file *it = find(fd);
    if (!it) return;
    locket_close(&it->lock);
    free(it->path);
    *it = (file){0};
}

/* The cleared entry of a descriptor; NULL if memory runs out. */
static file *place(int fd) {
    forget(fd);
    if ((size_t)fd >= file_count) {
        size_t count = (size_t)fd * 2 + 8;
        file *more = realloc(files, count * sizeof *more);
        if (!more) return NULL;
        memset(more + file_count, 0, (count - file_count) * sizeof *more);
        files = more;
        file_count = count;
    }
    return &files[fd];
}

/* The path of a directory, which was recorded when it was opened, or is granted by the host. */
static char *directory(int fd) {
    file *it = find(fd);
    if (it) return strdup(it->path);
    __wasi_prestat_t granted;
    if (__wasi_fd_prestat_get(fd, &granted)) return NULL;
    size_t length = granted.u.dir.pr_name_len;
    char *name = calloc(length + 1, 1);
    if (name && __wasi_fd_prestat_dir_name(fd, (uint8_t *)name, length)) {
        free(name);
        return NULL;
    }
    return name;
}

static char *joined(char *folder, const char *path) {
    if (!folder) return NULL;
    size_t length = strlen(folder);
    char *whole = realloc(folder, length + 1 + strlen(path) + 1);
    if (!whole) {
        free(folder);
        return NULL;
    }
    if (length == 0 || whole[length - 1] != '/') whole[length++] = '/';
    strcpy(whole + length, path);
    return whole;
}

/* Replaces the function of the library that opens every file. */
int __wasilibc_nocwd_openat_nomode(int folder, const char *path, int flags) {
    __wasi_fdstat_t of_folder;
    __wasi_errno_t error = __wasi_fd_fdstat_get(folder, &of_folder);
    /* What the directory allows, except what the access mode rules out. */
    __wasi_rights_t rights = of_folder.fs_rights_inheriting;
    if (!(flags & O_RDONLY)) rights &= ~(__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR);
    if (!(flags & O_WRONLY))
        rights &= ~(__WASI_RIGHTS_FD_DATASYNC | __WASI_RIGHTS_FD_WRITE |
                    __WASI_RIGHTS_FD_ALLOCATE | __WASI_RIGHTS_FD_FILESTAT_SET_SIZE);
    __wasi_lookupflags_t lookup = flags & O_NOFOLLOW ? 0 : __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW;
    __wasi_fd_t fd;
    if (!error)
        error = __wasi_path_open(folder, lookup, path, (flags >> 12) & 0xfff, rights,
                                 of_folder.fs_rights_inheriting, flags & 0xfff, &fd);
    if (error) {
        errno = error;
        return -1;
    }
    file *it = place(fd);
    /* If memory runs out, the file is open but cannot be locked. */
    if (it) it->path = joined(directory(folder), path);
    return fd;
}

/* Replaces the function of the library. The lock is free when this returns. */
int close(int fd) {
    forget(fd);
    __wasi_errno_t error = __wasi_fd_close(fd);
    if (!error) return 0;
    errno = error;
    return -1;
}

/* Replaces the function of the library, which is in the same object as close(). */
int __wasilibc_fd_renumber(int fd, int newfd) {
    __wasi_errno_t error = __wasi_fd_renumber(fd, newfd);
    if (error) {
        errno = error;
        return -1;
    }
    if (fd == newfd) return 0;
    file *old = find(fd);
    file moved = old ? *old : (file){0};
    if (old) *old = (file){0};
    file *new = place(newfd);
    if (new) *new = moved;
    return 0;
}

static int failed(locket_error error) {
    switch (error) {
    case LOCKET_OK: return 0;
    case LOCKET_WOULD_BLOCK: errno = EWOULDBLOCK; break;
    case LOCKET_DEADLOCK: errno = EDEADLK; break;
    case LOCKET_CANCELED: errno = EINTR; break;
    case LOCKET_ACCESS_DENIED: errno = EACCES; break;
    case LOCKET_NO_ENTRY: errno = ESTALE; break;
    case LOCKET_INVALID_PATH:
    case LOCKET_NOT_SUPPORTED: errno = EOPNOTSUPP; break;
    case LOCKET_IO_NO_SPACE: errno = ENOSPC; break;
    case LOCKET_IO_QUOTA: errno = EDQUOT; break;
    case LOCKET_IO_READ_ONLY: errno = EROFS; break;
    case LOCKET_IO_STALE: errno = ESTALE; break;
    case LOCKET_IO_TOO_MANY_FILES: errno = ENFILE; break;
    case LOCKET_IO_OTHER: errno = EIO; break;
    default: errno = ENOLCK; break;
    }
    return -1;
}

/* Whether the path still leads to the open file. */
static bool is_there(int fd, const char *path) {
    struct stat open, named;
    return !fstat(fd, &open) && !stat(path, &named) && open.st_dev == named.st_dev &&
           open.st_ino == named.st_ino;
}

static int unlock(file *it) {
    if (!it->is_held) return 0;
    it->is_held = false;
    return failed(locket_release(&it->lock));
}

int flock(int fd, int operation) {
    static const locket_options options = {.protocol = LOCKET_PROTOCOL_FLOCK};
    file *it = find(fd);
    if (!it) {
        errno = fcntl(fd, F_GETFL) < 0 ? EBADF : EOPNOTSUPP;
        return -1;
    }
    locket_mode mode;
    switch (operation & ~LOCK_NB) {
    case LOCK_EX: mode = LOCKET_EXCLUSIVE; break;
    case LOCK_SH: mode = LOCKET_SHARED; break;
    case LOCK_UN: return unlock(it);
    default: errno = EINVAL; return -1;
    }
    if (it->is_held && it->mode == mode) return 0;
    /* Linux, too, releases a lock before it converts it, and may then fail to acquire it again. */
    if (unlock(it)) return -1;

    if (!is_there(fd, it->path)) {
        errno = ESTALE;
        return -1;
    }
    locket_error error = LOCKET_OK;
    if (!it->lock.handle) error = locket_open_with(&it->lock, it->path, &options);
    if (error) return failed(error);
    int64_t timeout = operation & LOCK_NB ? 0 : LOCKET_FOREVER;
    error = locket_acquire(&it->lock, mode, timeout);
    if (error) return failed(error);
    it->is_held = true;
    it->mode = mode;
    /* Another program may have replaced the file during the wait. */
    if (is_there(fd, it->path)) return 0;
    unlock(it);
    errno = ESTALE;
    return -1;
}
