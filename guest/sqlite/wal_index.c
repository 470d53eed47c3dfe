/* The wal-index without shared memory. Native programs map the file DATABASE-shm; a component cannot, and
 * keeps a copy of it, which it makes coherent at every fence:
 *
 *   push  writes every 32-bit word that SQLite has changed here since the last fence
 *   pull  takes over every word that has changed in the file since then; at a barrier, fewer
 *
 * A region has two parts for that: what SQLite works on, and what the file had at the last fence. Both
 * go word by word, since neighboring words belong to other processes under other locks.
 *
 * Why that is right: SQLite relies on the order of accesses to the wal-index only across walShmBarrier()
 * and the locks of walLockShared() and walLockExclusive(), which are xShmBarrier and xShmLock here. Between
 * two fences a processor may show its changes late and in any order, and may see those of others late; so
 * may this copy. What is read without a lock, walIndexTryHdr() reads twice, with a barrier in between, and
 * checks by a sum. Where SQLite relies on more, that is on what a process leaves behind that is killed
 * between two fences, push() keeps an order of its own.
 *
 * It is assumed that the kernel shows each aligned word that is written at once, as a processor does, and
 * that the maps of native programs and the file that is read and written here are one page cache.
 *
 * Locks are single bytes of the same file, as native SQLite has them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* A region has the numbers of pages, and from the word SLOTS on a hash table of them. The first begins with
 * the header, twice, each of which ends with its sum, and with the words that are locked one by one. */
enum { REGION = 32768, WORDS = REGION / 4, SLOTS = WORDS / 2, PAGE = 4096 };
enum { HEADER = 12, SUM = 10, MARKS = 10 };

/* The bytes that are locked: eight locks, and one that each process has in shared mode while it uses the
 * index. A process that can have it exclusively is alone, and begins a new index. */
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

/* Whether words are the same, two at a time: this is done with each region at each fence, and memcmp() of
 * WASI's C library compares bytes. */
static bool same(const uint32_t *a, const uint32_t *b) {
    uint64_t differs = 0;
    for (int word = 0; word < WORDS; word += 2) {
        uint64_t x, y;
        memcpy(&x, a + word, sizeof x);
        memcpy(&y, b + word, sizeof y);
        differs |= x ^ y;
    }
    return differs == 0;
}

/* Which of the words that have changed. */
typedef enum { ANY, SET, CLEARED } change;

static bool is_due(const region *r, int word, change which) {
    if (r->live[word] == r->file[word]) return false;
    return which == ANY || (r->live[word] == 0) == (which == CLEARED);
}

/* The words from `from` to `end` of a region. */
static int push_words(wal_index *index, int number, int from, int end, change which) {
    region *r = index->regions[number];
    for (; from < end; from++) {
        if (!is_due(r, from, which)) continue;
        int to = from;
        while (to < end && is_due(r, to, which)) to++;
        size_t size = (size_t)(to - from) * 4;
        off_t at = (off_t)number * REGION + (off_t)from * 4;
        if (pwrite(index->descriptor, r->live + from, size, at) != (ssize_t)size) return SQLITE_IOERR_SHMMAP;
        memcpy(r->file + from, r->live + from, size);
        from = to;
    }
    return SQLITE_OK;
}

/* A page has to have its number before a slot of the hash table leads there, and as long as one does:
 * walHashGet() would take a slot that leads to no number for the end of a chain, and walIndexAppend() finds
 * what a killed writer has left by the numbers alone, in walCleanupHash(). */
static int push_region(wal_index *index, int number) {
    region *r = index->regions[number];
    if (same(r->live, r->file)) return SQLITE_OK;
    int from = number == 0 ? 2 * HEADER : 0;
    int result = push_words(index, number, from, SLOTS, SET);
    if (result == SQLITE_OK) result = push_words(index, number, SLOTS, WORDS, ANY);
    if (result == SQLITE_OK) result = push_words(index, number, from, SLOTS, CLEARED);
    return result;
}

/* The header does not fit its sum before all else has been written: a component that is killed in between
 * must leave no valid header beside a rest that is older or newer, and the next process recovers the index.
 * walRestartHdr() stores the header before the number of frames that are backfilled. If only the
 * header were seen, a later writer would take its own frames for backfilled ones, and overwrite them. If only
 * the rest were, a reader would look for its frames in a log that has begun anew. */
static int push(wal_index *index) {
    if (index->read_only || index->count == 0) return SQLITE_OK;
    int result = push_words(index, 0, 0, SUM, ANY);
    for (int number = index->count - 1; number >= 0 && result == SQLITE_OK; number--) {
        result = push_region(index, number);
    }
    if (result == SQLITE_OK) result = push_words(index, 0, HEADER, 2 * HEADER, ANY);
    if (result == SQLITE_OK) result = push_words(index, 0, SUM, HEADER, ANY);
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
        if (same(now, r->file)) continue;
        for (int word = 0; word < WORDS; word++) {
            if (now[word] != r->file[word]) r->live[word] = r->file[word] = now[word];
        }
    }
    return SQLITE_OK;
}

/* What is there of the words that are locked one by one: how far the log is backfilled, and the readers' marks.
 *
 * A barrier takes over no more. Between the two copies of the header, walIndexTryHdr() has one, and would find
 * them different if the header changed; after a lock, walTryBeginRead() compares the header anyway. */
static void pull_marks(wal_index *index) {
    uint32_t now[MARKS] = {0};
    if (index->count == 0 || pread(index->descriptor, now, sizeof now, 2 * HEADER * 4) < 0) return;
    uint32_t *live = index->regions[0]->live + 2 * HEADER, *file = index->regions[0]->file + 2 * HEADER;
    for (int word = 0; word < MARKS; word++) {
        if (now[word] != file[word]) live[word] = file[word] = now[word];
    }
}

static void index_free(wal_index *index) {
    for (int number = 0; number < index->count; number++) free(index->regions[number]);
    free(index->regions);
    if (index->descriptor >= 0) close(index->descriptor);
    lock_forget(&index->ranges);
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
        result = lock_range(&index->ranges, mode, bytes, c->timeout, SQLITE_IOERR_SHMLOCK);
        if (result != SQLITE_OK) return result;
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
    pull_marks(c->database->index);
}

void index_refresh(wal_index *index) { pull(index); }

int index_unmap(sqlite3_file *file, int remove) {
    connection *c = (connection *)file;
    if (!c->has_index) return SQLITE_OK;
    wal_index *index = c->database->index;
    int result = push(index);
    /* SQLite leaves no locks behind; if it did, they would last as long as another connection here. */
    for (int lock = 0; lock < LOCKS; lock++) {
        if (c->index_shared & 1u << lock) index_lock(file, lock, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED);
        if (c->index_exclusive & 1u << lock) index_lock(file, lock, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    }
    c->has_index = false;
    if (--index->connections > 0) return result;
    c->database->index = NULL;
    if (remove) unlink(index->path);
    index_free(index);
    return result;
}

int index_is_shared(const connection *c, bool *is_shared) {
    *is_shared = false;
    if (!c->has_index) return SQLITE_OK;
    locket_conflict found;
    locket_error error =
        locket_ranges_query(&c->database->index->ranges, LOCKET_EXCLUSIVE, dead_mans_switch, &found);
    if (error != LOCKET_OK) return SQLITE_IOERR_LOCK;
    *is_shared = found.is_there;
    return SQLITE_OK;
}
