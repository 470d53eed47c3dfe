/*
 * The descriptors of a C library for WASI 0.2 that has a table of its own: the right to an open file is
 * the right to its lock, so no path and no grant takes part. Compile with `-DLOCKET_DESCRIPTORS`, and
 * link with `-Wl,--wrap=fcntl,--wrap=close,--wrap=dup2,--wrap=dup3`.
 */
#ifdef LOCKET_DESCRIPTORS
#include <errno.h>
#include <stdlib.h>

#include "../../internal.h"
#include "posix.h"

/* The table's entries, as the private header wasi/descriptor_table.h has them. */
typedef struct entry {
    unsigned *data; /* The same in duplicates. Newer libraries count these in its first word. */
    const struct {
        void (*free)(void *);
        int (*get_read_stream)(void *, void *);
        int (*get_write_stream)(void *, void *);
        int (*set_blocking)(void *, bool);
        int (*fstat)(void *, void *);
        int (*get_file)(void *, int32_t *handle);
    } *functions;
} entry;

/* Libraries before dup() have the first of these, later ones the second, which adds a reference. */
__attribute__((weak)) entry *descriptor_table_get_ref(int fd);
__attribute__((weak)) int descriptor_table_get(int fd, entry *found);

static bool look_up(int fd, entry *found) {
    if (descriptor_table_get) {
        if (descriptor_table_get(fd, found)) return false;
        --*found->data;
        return true;
    }
    entry *it = descriptor_table_get_ref(fd);
    if (it) *found = *it;
    return it;
}

/* What is known of an open file description. */
typedef struct known {
    const void *data;
    open_file file;
    struct known *next;
} known;

static known *all;

static known **find(const void *data) {
    known **link = &all;
    while (*link && (*link)->data != data) link = &(*link)->next;
    return link;
}

/* What becomes of locks before a descriptor is closed. */
static void closing(int fd) {
    entry it;
    if (!all || !look_up(fd, &it)) return;
    locket_posix_closing(fd);
    if (descriptor_table_get && *it.data > 1) return;
    known **link = find(it.data), *last = *link;
    if (!last) return;
    *link = last->next;
    locket_posix_closed(&last->file);
    free(last);
}

int __real_close(int fd);
int __real_dup2(int fd, int newfd) __attribute__((weak));
int __real_dup3(int fd, int newfd, int flags) __attribute__((weak));

int __wrap_close(int fd) {
    closing(fd);
    return __real_close(fd);
}

/* If a duplicate is made in place of a descriptor, that one is closed. */
static void replacing(int fd, int newfd) {
    entry it;
    if (fd != newfd && look_up(fd, &it)) closing(newfd);
}

int __wrap_dup2(int fd, int newfd) {
    replacing(fd, newfd);
    return __real_dup2(fd, newfd);
}

int __wrap_dup3(int fd, int newfd, int flags) {
    replacing(fd, newfd);
    return __real_dup3(fd, newfd, flags);
}

open_file *locket_posix_find(int fd, int unlockable) {
    entry it;
    if (!look_up(fd, &it)) return NULL;
    if (!it.functions->get_file) {
        errno = unlockable;
        return NULL;
    }
    known *found = *find(it.data);
    if (found) return &found->file;
    found = calloc(1, sizeof *found);
    if (!found) {
        errno = ENOLCK;
        return NULL;
    }
    *found = (known){.data = it.data, .next = all};
    all = found;
    return &found->file;
}

bool locket_posix_is_same(int fd, const open_file *it) {
    (void)fd, (void)it;
    return true;
}

/* The interface `descriptors`. Its generated bindings would contain those of all files of WASI. */
#define IMPORT(name) \
    __attribute__((import_module("locket:lock/descriptors@0.1.0"), import_name(name)))

IMPORT("open-lock") void locket_import_open_lock(int32_t, int32_t, int32_t, int32_t, void *);
IMPORT("open-ranges") void locket_import_open_ranges(int32_t, void *);

/* A `result<own<…>, error>` in memory. */
typedef struct opened {
    uint8_t is_error;
    union {
        int32_t handle;
        struct {
            uint8_t tag;
            struct {
                uint8_t first; /* The reason or kind, or whether there is a text. */
                locket_wit_string_t text;
            } value;
        } error;
    };
} opened;

static locket_error taken(const opened *it, int32_t *handle) {
    if (!it->is_error) {
        *handle = it->handle;
        return LOCKET_OK;
    }
    locket_lock_api_error_t error = {.tag = it->error.tag};
    switch (error.tag) {
    case LOCKET_LOCK_API_ERROR_LOST: error.val.lost = it->error.value.first; break;
    case LOCKET_LOCK_API_ERROR_IO: error.val.io = it->error.value.first; break;
    case LOCKET_LOCK_API_ERROR_OTHER:
        error.val.other.is_some = it->error.value.first;
        error.val.other.val = it->error.value.text;
    }
    return locket_translated(&error);
}

/* The descriptor of WASI. */
static bool borrowed(int fd, int32_t *handle) {
    entry it;
    return look_up(fd, &it) && !it.functions->get_file(it.data, handle);
}

locket_error locket_posix_open_lock(int fd, const open_file *it, locket_t *lock) {
    (void)it;
    int32_t file;
    opened result;
    if (!borrowed(fd, &file)) return LOCKET_INVALID_PATH;
    locket_import_open_lock(file, 1, LOCKET_LOCK_API_PROTOCOL_FLOCK,
                            LOCKET_LOCK_API_ON_RELEASE_KEEP, &result);
    return taken(&result, &lock->handle);
}

locket_error locket_posix_open_ranges(int fd, const open_file *it, locket_ranges_t *ranges) {
    (void)it;
    int32_t file;
    opened result;
    if (!borrowed(fd, &file)) return LOCKET_INVALID_PATH;
    locket_import_open_ranges(file, &result);
    return taken(&result, &ranges->handle);
}
#endif
