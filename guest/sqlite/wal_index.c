/* The wal-index without shared memory. Native programs map the file DATABASE-shm; a component cannot, and
 * keeps a copy of it, which it makes coherent at every fence:
 *
 *   push  writes every 32-bit word that SQLite has changed here since the last fence
 *   pull  takes over every word that has changed in the file since then
 *
 * A region has two parts for that: what SQLite works on, and what the file had at the last fence. Both
 * go word by word, since neighboring words belong to other processes under other locks.
 *
 * Why that is right: SQLite makes no other assumptions about when a change of the wal-index is seen than
 * those of processors. It relies on the order of accesses only across walShmBarrier() and
 * the locks of walLockShared() and walLockExclusive(), which are xShmBarrier and xShmLock here. To
 * see a change no later than at the next fence, and to show one no earlier than at that, is among
 * the orders that it has to expect without fences. What is read without a lock, walIndexTryHdr() reads
 * twice, with a barrier in between, and checks by a sum. On Linux the maps of native programs and
 * the file that is read and written here are one page cache.
 *
 * Locks are single bytes of the same file, as native SQLite has them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* The header is there twice, at the beginning. */
enum { REGION = 32768, WORDS = REGION / 4, HEADER = 12, PAGE = 4096 };

/* The bytes that are locked: eight locks, and one that each process has in shared mode while it uses the
 * index. Whoever can have it exclusively is alone, and begins a new index. */
enum { FIRST_LOCK = 120, LOCKS = SQLITE_SHM_NLOCK };
static const locket_range dead_mans_switch = {128, 1};

typedef struct region {
    uint32_t live[WORDS];
    uint32_t file[WORDS];
} region;

struct wal_index {
    int descriptor;
    locket_ranges_t ranges;
    char *path;
    bool read_only;
    /* It was read-only, and no process had begun the index. */
    bool is_unlocked;
    int connections;
    int count;
    region **regions;
    /* How many connections here have each lock in shared mode; -1 if one has it exclusively. */
    int locks[LOCKS];
};

/* The words from `from` to `end` of a region. */
static int push_words(wal_index *index, int number, int from, int end) {
    region *r = index->regions[number];
    for (; from < end; from++) {
        if (r->live[from] == r->file[from]) continue;
        int to = from;
        while (to < end && r->live[to] != r->file[to]) to++;
        size_t size = (size_t)(to - from) * 4;
        off_t at = (off_t)number * REGION + (off_t)from * 4;
        if (pwrite(index->descriptor, r->live + from, size, at) != (ssize_t)size) return SQLITE_IOERR_SHMMAP;
        memcpy(r->file + from, r->live + from, size);
        from = to;
    }
    return SQLITE_OK;
}

/* The header last, and the copy last that readers take for its end: a component that is killed in between
 * must not leave a header that is valid beside a rest that is older. walRestartHdr() stores it before the
 * number of frames that are backfilled. If only the header were seen, a later writer would take
 * its own frames for backfilled ones, and overwrite them. */
static int push(wal_index *index) {
    if (index->read_only || index->count == 0) return SQLITE_OK;
    int result = SQLITE_OK;
    for (int number = index->count - 1; number >= 0 && result == SQLITE_OK; number--) {
        result = push_words(index, number, number == 0 ? 2 * HEADER : 0, WORDS);
    }
    if (result == SQLITE_OK) result = push_words(index, 0, HEADER, 2 * HEADER);
    if (result == SQLITE_OK) result = push_words(index, 0, 0, HEADER);
    return result;
}

static int pull(wal_index *index) {
    static uint32_t now[WORDS];
    for (int number = 0; number < index->count; number++) {
        region *r = index->regions[number];
        ssize_t got = pread(index->descriptor, now, REGION, (off_t)number * REGION);
        /* The index was begun anew meanwhile: what is missing is zero. */
        if (got < 0) return SQLITE_IOERR_SHMMAP;
        memset((char *)now + got, 0, REGION - (size_t)got);
        if (memcmp(now, r->file, REGION) == 0) continue;
        for (int word = 0; word < WORDS; word++) {
            if (now[word] != r->file[word]) r->live[word] = r->file[word] = now[word];
        }
    }
    return SQLITE_OK;
}

static void index_free(wal_index *index) {
    for (int number = 0; number < index->count; number++) free(index->regions[number]);
    free(index->regions);
    if (index->descriptor >= 0) close(index->descriptor);
    locket_ranges_close(&index->ranges);
    free(index->path);
    free(index);
}

/* Joins the processes that use the index, and begins it anew if there are none. */
static int join(wal_index *index) {
    locket_conflict found;
    locket_error error = locket_ranges_query(&index->ranges, LOCKET_EXCLUSIVE, dead_mans_switch, &found);
    if (error != LOCKET_OK) return SQLITE_IOERR_LOCK;
    if (found.is_there && found.mode == LOCKET_EXCLUSIVE) return SQLITE_BUSY;
    if (!found.is_there) {
        if (index->read_only) {
            index->is_unlocked = true;
            return SQLITE_READONLY_CANTINIT;
        }
        error = locket_ranges_lock(&index->ranges, LOCKET_EXCLUSIVE, dead_mans_switch, 0);
        if (error != LOCKET_OK) return lock_result(error, SQLITE_IOERR_LOCK);
        /* Not empty: SQLite takes an empty file for one that it has just made. */
        if (ftruncate(index->descriptor, 3) != 0) return SQLITE_IOERR_SHMOPEN;
    }
    error = locket_ranges_lock(&index->ranges, LOCKET_SHARED, dead_mans_switch, 0);
    index->is_unlocked = false;
    return lock_result(error, SQLITE_IOERR_LOCK);
}

static int index_open(connection *c) {
    database *d = c->database;
    if (!d->index) {
        wal_index *index = calloc(1, sizeof *index);
        if (!index) return SQLITE_NOMEM;
        index->descriptor = -1;
        size_t length = strlen(c->path);
        index->path = malloc(length + sizeof "-shm");
        if (!index->path) {
            index_free(index);
            return SQLITE_NOMEM;
        }
        memcpy(index->path, c->path, length);
        memcpy(index->path + length, "-shm", sizeof "-shm");
        if (!sqlite3_uri_boolean(c->path, "readonly_shm", 0)) {
            index->descriptor = open(index->path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
        }
        if (index->descriptor < 0) {
            index->descriptor = open(index->path, O_RDONLY | O_NOFOLLOW);
            index->read_only = true;
        }
        int result = index->descriptor < 0 ? SQLITE_CANTOPEN : SQLITE_OK;
        if (result == SQLITE_OK) {
            result = lock_result(locket_ranges_open(&index->ranges, index->path), SQLITE_IOERR_SHMOPEN);
        }
        if (result == SQLITE_OK) result = join(index);
        if (result != SQLITE_OK && result != SQLITE_READONLY_CANTINIT) {
            index_free(index);
            return result;
        }
        d->index = index;
    } else if (d->index->is_unlocked) {
        int result = join(d->index);
        if (result != SQLITE_OK && result != SQLITE_READONLY_CANTINIT) return result;
    }
    if (!c->has_index) d->index->connections++;
    c->has_index = true;
    return d->index->is_unlocked ? SQLITE_READONLY_CANTINIT : SQLITE_OK;
}

/* Makes the file as long as `size`, page by page: so it is not full before the first write to one. */
static int extend(int descriptor, off_t from, off_t size) {
    for (off_t page = from / PAGE; page < size / PAGE; page++) {
        if (pwrite(descriptor, "", 1, page * PAGE + PAGE - 1) != 1) return SQLITE_IOERR_SHMSIZE;
    }
    return SQLITE_OK;
}

int index_map(sqlite3_file *file, int number, int size, int create, void volatile **mapped) {
    connection *c = (connection *)file;
    *mapped = NULL;
    if (size != REGION) return SQLITE_IOERR_SHMMAP;
    int result = database_use(c);
    if (result != SQLITE_OK) return result;
    if (!c->has_index || c->database->index->is_unlocked) {
        result = index_open(c);
        if (result != SQLITE_OK) return result;
    }
    wal_index *index = c->database->index;
    int answer = index->read_only ? SQLITE_READONLY : SQLITE_OK;
    if (number >= index->count) {
        off_t needed = (off_t)(number + 1) * REGION;
        off_t length = lseek(index->descriptor, 0, SEEK_END);
        if (length < 0) return SQLITE_IOERR_SHMSIZE;
        if (length < needed) {
            if (!create) return answer;
            result = extend(index->descriptor, length, needed);
            if (result != SQLITE_OK) return result;
        }
        region **regions = realloc(index->regions, (size_t)(number + 1) * sizeof *regions);
        if (!regions) return SQLITE_NOMEM;
        index->regions = regions;
        while (index->count <= number) {
            region *added = calloc(1, sizeof *added);
            if (!added) return SQLITE_NOMEM;
            ssize_t got = pread(index->descriptor, added->file, REGION, (off_t)index->count * REGION);
            if (got < 0) {
                free(added);
                return SQLITE_IOERR_SHMMAP;
            }
            memcpy(added->live, added->file, REGION);
            regions[index->count++] = added;
        }
    }
    *mapped = index->regions[number]->live;
    return answer;
}

/* Whether a lock can be had without asking the host, or cannot be had at all, since connections here have
 * it. */
static int index_locked_here(const wal_index *index, int first, int count, bool exclusive) {
    for (int lock = first; lock < first + count; lock++) {
        if (index->locks[lock] < 0 || (exclusive && index->locks[lock] > 0)) return SQLITE_BUSY;
    }
    return SQLITE_OK;
}

int index_lock(sqlite3_file *file, int first, int count, int flags) {
    connection *c = (connection *)file;
    if (!c->has_index) return SQLITE_IOERR_SHMLOCK;
    wal_index *index = c->database->index;
    uint16_t mask = (uint16_t)(((1u << count) - 1) << first);
    locket_range bytes = {FIRST_LOCK + (uint64_t)first, (uint64_t)count};
    bool exclusive = flags & SQLITE_SHM_EXCLUSIVE;
    uint16_t *held = exclusive ? &c->index_exclusive : &c->index_shared;

    int result = push(index);
    if (result != SQLITE_OK) return result;
    if (flags & SQLITE_SHM_UNLOCK) {
        if (!(*held & mask)) return SQLITE_OK;
        bool last = exclusive || index->locks[first] == 1;
        if (last && locket_ranges_unlock(&index->ranges, bytes) != LOCKET_OK) return SQLITE_IOERR_UNLOCK;
        for (int lock = first; lock < first + count; lock++) {
            index->locks[lock] = exclusive ? 0 : index->locks[lock] - 1;
        }
        *held &= (uint16_t)~mask;
        return SQLITE_OK;
    }
    if (*held & mask) return SQLITE_OK;
    result = index_locked_here(index, first, count, exclusive);
    if (result != SQLITE_OK) return result;
    if (exclusive || index->locks[first] == 0) {
        locket_mode mode = exclusive ? LOCKET_EXCLUSIVE : LOCKET_SHARED;
        locket_error error = locket_ranges_lock(&index->ranges, mode, bytes, c->timeout);
        if (error != LOCKET_OK) return lock_result(error, SQLITE_IOERR_SHMLOCK);
    }
    for (int lock = first; lock < first + count; lock++) {
        index->locks[lock] = exclusive ? -1 : index->locks[lock] + 1;
    }
    *held |= mask;
    result = pull(index);
    if (result != SQLITE_OK) index_lock(file, first, count, SQLITE_SHM_UNLOCK | (flags & SQLITE_SHM_EXCLUSIVE));
    return result;
}

void index_barrier(sqlite3_file *file) {
    connection *c = (connection *)file;
    if (!c->has_index) return;
    /* There is no way to report a failure; the next lock will. */
    push(c->database->index);
    pull(c->database->index);
}

int index_unmap(sqlite3_file *file, int remove) {
    connection *c = (connection *)file;
    if (!c->has_index) return SQLITE_OK;
    wal_index *index = c->database->index;
    int result = push(index);
    c->has_index = false;
    if (--index->connections > 0) return result;
    c->database->index = NULL;
    if (remove) unlink(index->path);
    index_free(index);
    return result;
}
