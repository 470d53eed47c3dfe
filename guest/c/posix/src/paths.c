/*
 * Which path each descriptor was opened by.
 *
 * A lock is opened by path, and WASI 0.1 does not report the path of a descriptor. But in its C library,
 * one function opens every path, for open(), openat() and fopen(), and another closes every descriptor.
 * Each is in an object of its own in the library, so the functions of this file replace them without a
 * linker flag. They record the paths.
 */
#ifndef LOCKET_DESCRIPTORS
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc.h>

#include "posix.h"

/* By descriptor; NULL if nothing is known of it. WASI 0.1 has no dup() and no fork(), so a descriptor is
 * an open file description. */
static open_file **files;
static size_t file_count;

static open_file *known(int fd) { return fd >= 0 && (size_t)fd < file_count ? files[fd] : NULL; }

static void forget(int fd) {
    open_file *it = known(fd);
    if (!it) return;
    files[fd] = NULL;
    locket_posix_closed(it);
    free(it);
}

/* Makes room for a descriptor of which nothing is known. False if memory runs out. */
static bool place(int fd) {
    forget(fd);
    if ((size_t)fd >= file_count) {
        size_t count = (size_t)fd * 2 + 8;
        open_file **more = realloc(files, count * sizeof *more);
        if (!more) return false;
        memset(more + file_count, 0, (count - file_count) * sizeof *more);
        files = more;
        file_count = count;
    }
    return true;
}

/* The path of a directory, which was recorded when it was opened, or is granted by the host. */
static char *directory(int fd) {
    open_file *it = known(fd);
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
    /* If memory runs out, the file is open but cannot be locked. */
    open_file *it = place(fd) ? calloc(1, sizeof *it) : NULL;
    if (it) {
        files[fd] = it;
        it->path = joined(directory(folder), path);
        if (!it->path) forget(fd);
    }
    return fd;
}

/* Replaces the function of the library. The locks are free when this returns. */
int close(int fd) {
    locket_posix_closing(fd);
    forget(fd);
    __wasi_errno_t error = __wasi_fd_close(fd);
    if (!error) return 0;
    errno = error;
    return -1;
}

/* Replaces the function of the library, which is in the same object as close(). */
int __wasilibc_fd_renumber(int fd, int newfd) {
    __wasi_fdstat_t of_fd;
    if (fd != newfd && !__wasi_fd_fdstat_get(fd, &of_fd)) locket_posix_closing(newfd);
    __wasi_errno_t error = __wasi_fd_renumber(fd, newfd);
    if (error) {
        errno = error;
        return -1;
    }
    if (fd == newfd) return 0;
    open_file *moved = known(fd);
    forget(newfd);
    if (!moved) return 0;
    files[fd] = NULL;
    if (place(newfd)) {
        files[newfd] = moved;
    } else {
        locket_posix_closed(moved);
        free(moved);
    }
    return 0;
}

open_file *locket_posix_find(int fd, int unlockable) {
    open_file *it = known(fd);
    if (!it) errno = locket_posix_flags(fd) < 0 ? EBADF : unlockable;
    return it;
}

bool locket_posix_is_same(int fd, const open_file *it) {
    struct stat open, named;
    return !fstat(fd, &open) && !stat(it->path, &named) && open.st_dev == named.st_dev &&
           open.st_ino == named.st_ino;
}

locket_error locket_posix_open_lock(int fd, const open_file *it, locket_t *lock) {
    (void)fd;
    static const locket_options options = {.protocol = LOCKET_PROTOCOL_FLOCK};
    return locket_open_with(lock, it->path, &options);
}

locket_error locket_posix_open_ranges(int fd, const open_file *it, locket_ranges_t *ranges) {
    /* Before, because opening creates the file if it is missing. Afterwards, because it may have been
     * replaced; once it is open it stays the same. */
    if (!locket_posix_is_same(fd, it)) return LOCKET_NO_ENTRY;
    locket_error error = locket_ranges_open(ranges, it->path);
    if (error || locket_posix_is_same(fd, it)) return error;
    locket_ranges_close(ranges);
    return LOCKET_NO_ENTRY;
}
#endif
