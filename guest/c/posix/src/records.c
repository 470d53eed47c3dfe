#include "records.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "offsets.h"

struct inode {
    dev_t device;
    ino_t number;
    locket_ranges_t ranges;
    bool is_written; /* Whether `ranges` is that of a descriptor that can write. */
    spans of_process; /* Set by F_SETLK. */
    open_file *users; /* Each has spans of its own. */
    struct inode *next;
};

static inode *inodes;

static inode *inode_of(const struct stat *stat) {
    for (inode *it = inodes; it; it = it->next)
        if (it->number == stat->st_ino && it->device == stat->st_dev) return it;
    return NULL;
}

/* Opens the ranges of an inode; those of the first descriptor, and again those of the first that can
 * write, because by descriptor only that has the right to exclusive locks. */
static locket_error open_ranges(int fd, const open_file *it, inode *of) {
    bool writes = locket_posix_flags(fd) & O_WRONLY;
    if (of->ranges.handle && (of->is_written || !writes)) return LOCKET_OK;
    locket_ranges_t ranges;
    locket_error error = locket_posix_open_ranges(fd, it, &ranges);
    if (error) return of->ranges.handle ? LOCKET_OK : error;
    /* Both are one owner to the host. */
    locket_ranges_close(&of->ranges);
    of->ranges = ranges;
    of->is_written = writes;
    return LOCKET_OK;
}

/* Finds or makes an inode. On failure, NULL with `errno`. */
static inode *open_inode(int fd, const open_file *it) {
    struct stat stat;
    if (fstat(fd, &stat)) return NULL;
    if (!S_ISREG(stat.st_mode)) {
        errno = EINVAL;
        return NULL;
    }
    inode *found = inode_of(&stat);
    inode *of = found ? found : calloc(1, sizeof *of);
    locket_error error = of ? open_ranges(fd, it, of) : LOCKET_LIMIT_EXCEEDED;
    if (error) {
        if (!found) free(of);
        locket_posix_result(error);
        return NULL;
    }
    if (found) return found;
    of->device = stat.st_dev;
    of->number = stat.st_ino;
    of->next = inodes;
    inodes = of;
    return of;
}

/* Makes the description a user of its inode. */
static int attach(int fd, open_file *it) {
    it->inode = open_inode(fd, it);
    if (!it->inode) return -1;
    it->next = it->inode->users;
    it->inode->users = it;
    return 0;
}

int locket_posix_owner(int fd, open_file *it, bool is_description, owner *found) {
    if (!it->inode && attach(fd, it)) return -1;
    *found = (owner){it->inode, is_description ? &it->locked : &it->inode->of_process};
    return 0;
}

/* What `search` finds first in the spans of the other owners within this component. */
static const span *of_others(owner it, span wanted,
                             const span *(*search)(const spans *, span wanted)) {
    inode *in = it.inode;
    const span *first = in->of_process.count && &in->of_process != it.locked
                            ? search(&in->of_process, wanted)
                            : NULL;
    for (open_file *user = in->users; user; user = user->next) {
        if (&user->locked == it.locked) continue;
        const span *found = search(&user->locked, wanted);
        if (found && (!first || found->first < first->first)) first = found;
    }
    return first;
}

static const span *any(const spans *these, span wanted) {
    return locket_spans_find(these, wanted.first, wanted.last);
}

static locket_range range(uint64_t first, uint64_t last) {
    return (locket_range){first, last == LAST_OFFSET ? 0 : last - first + 1};
}

int locket_posix_lock(owner it, span wanted, bool waits) {
    if (of_others(it, wanted, locket_spans_conflict)) {
        /* While this waited, no one could unlock it. */
        errno = waits ? EDEADLK : EAGAIN;
        return -1;
    }
    if (!locket_spans_reserve(it.locked, 2)) {
        errno = ENOLCK;
        return -1;
    }
    locket_error error = locket_ranges_lock(&it.inode->ranges, wanted.mode,
                                            range(wanted.first, wanted.last),
                                            waits ? LOCKET_FOREVER : 0);
    if (error) return locket_posix_result(error);
    locket_spans_insert(it.locked, wanted);
    return 0;
}

int locket_posix_unlock(owner it, uint64_t first, uint64_t last) {
    while (true) {
        /* What other owners have locked as well stays locked. */
        const span *other = of_others(it, (span){first, last, LOCKET_SHARED}, any);
        bool is_others = other && other->first <= first;
        uint64_t end = !other ? last : is_others ? other->last : other->first - 1;
        if (end > last) end = last;
        if (!locket_spans_reserve(it.locked, 1)) {
            errno = ENOLCK;
            return -1;
        }
        if (!is_others) {
            locket_error error = locket_ranges_unlock(&it.inode->ranges, range(first, end));
            if (error) return locket_posix_result(error);
        }
        locket_spans_remove(it.locked, first, end);
        if (end == last) return 0;
        first = end + 1;
    }
}

int locket_posix_query(owner it, span wanted, span *found, bool *is_there) {
    const span *other = of_others(it, wanted, locket_spans_conflict);
    *is_there = other;
    if (other) {
        *found = *other;
        return 0;
    }
    locket_conflict conflict;
    locket_error error = locket_ranges_query(&it.inode->ranges, wanted.mode,
                                             range(wanted.first, wanted.last), &conflict);
    if (error) return locket_posix_result(error);
    uint64_t length = conflict.range.length;
    *is_there = conflict.is_there;
    *found = (span){
        .first = conflict.range.start,
        .last = length ? conflict.range.start + length - 1 : LAST_OFFSET,
        .mode = conflict.mode,
    };
    return 0;
}

/* Unlocks all that an owner has locked. */
static void drop(owner it) {
    /* If that fails, the locks end with the last user of the inode. */
    if (it.locked->count) locket_posix_unlock(it, 0, LAST_OFFSET);
}

void locket_posix_closing(int fd) {
    struct stat stat;
    if (!inodes || fstat(fd, &stat)) return;
    inode *it = inode_of(&stat);
    if (it) drop((owner){it, &it->of_process});
}

/* Takes a user from its inode, which ends with the last one. */
static void detach(open_file *it) {
    inode *of = it->inode;
    drop((owner){of, &it->locked});
    open_file **user = &of->users;
    while (*user != it) user = &(*user)->next;
    *user = it->next;
    if (of->users) return;
    inode **link = &inodes;
    while (*link != of) link = &(*link)->next;
    *link = of->next;
    locket_ranges_close(&of->ranges);
    free(of->of_process.items);
    free(of);
}

void locket_posix_closed(open_file *it) {
    if (it->inode) detach(it);
    locket_close(&it->lock);
    free(it->locked.items);
    free(it->path);
    *it = (open_file){0};
}
