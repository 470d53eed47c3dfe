/* locket_ranges.h on the open-file-description locks of Linux: the VFS without a component. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "locket_ranges.h"

static struct flock record(short type, locket_range range) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = (off_t)range.start;
    lock.l_len = (off_t)range.length;
    return lock;
}

static short type_of(locket_mode mode) { return mode == LOCKET_EXCLUSIVE ? F_WRLCK : F_RDLCK; }

locket_error locket_ranges_open(locket_ranges_t *ranges, const char *path) {
    ranges->handle = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    return ranges->handle < 0 ? LOCKET_NO_ENTRY : LOCKET_OK;
}

void locket_ranges_close(locket_ranges_t *ranges) {
    if (ranges->handle > 0) close(ranges->handle);
    ranges->handle = 0;
}

static void interrupt(int signal) { (void)signal; }

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

locket_error locket_ranges_lock(locket_ranges_t *ranges, locket_mode mode, locket_range range,
                                int64_t timeout) {
    struct flock lock = record(type_of(mode), range);
    if (fcntl(ranges->handle, F_OFD_SETLK, &lock) == 0) return LOCKET_OK;
    if (errno != EAGAIN && errno != EACCES) return LOCKET_IO_OTHER;
    if (timeout <= 0) return LOCKET_WOULD_BLOCK;
    /* The timer repeats: a signal may arrive just before the wait. */
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = interrupt}, NULL);
    const struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    int64_t end = milliseconds() + timeout;
    int locked;
    do locked = fcntl(ranges->handle, F_OFD_SETLKW, &lock);
    while (locked != 0 && errno == EINTR && milliseconds() < end);
    locket_error error = errno == EINTR ? LOCKET_TIMEOUT : LOCKET_IO_OTHER;
    setitimer(ITIMER_REAL, &never, NULL);
    return locked == 0 ? LOCKET_OK : error;
}

locket_error locket_ranges_unlock(locket_ranges_t *ranges, locket_range range) {
    struct flock lock = record(F_UNLCK, range);
    return fcntl(ranges->handle, F_OFD_SETLK, &lock) == 0 ? LOCKET_OK : LOCKET_IO_OTHER;
}

locket_error locket_ranges_query(const locket_ranges_t *ranges, locket_mode mode, locket_range range,
                                 locket_conflict *conflict) {
    struct flock lock = record(type_of(mode), range);
    memset(conflict, 0, sizeof *conflict);
    if (fcntl(ranges->handle, F_OFD_GETLK, &lock) != 0) return LOCKET_IO_OTHER;
    if (lock.l_type != F_UNLCK) {
        conflict->is_there = true;
        conflict->mode = lock.l_type == F_WRLCK ? LOCKET_EXCLUSIVE : LOCKET_SHARED;
        conflict->range = (locket_range){(uint64_t)lock.l_start, (uint64_t)lock.l_len};
    }
    return LOCKET_OK;
}
