/* The VFS `locket`: the files of SQLite's own VFS for Unix without locks, and the locks of this library
 * for main databases. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"
#include "locket_sqlite.h"

static sqlite3_vfs *below;

static const sqlite3_io_methods *below_methods(sqlite3_file *file) { return real_file(file)->pMethods; }

static int file_close(sqlite3_file *file) {
    connection *c = (connection *)file;
    file_unlock(file, SQLITE_LOCK_NONE);
    index_unmap(file, 0);
    database_leave(c);
    return below_methods(file)->xClose(real_file(file));
}

static int file_read(sqlite3_file *file, void *to, int size, sqlite3_int64 at) {
    return below_methods(file)->xRead(real_file(file), to, size, at);
}

static int file_write(sqlite3_file *file, const void *from, int size, sqlite3_int64 at) {
    return below_methods(file)->xWrite(real_file(file), from, size, at);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
    return below_methods(file)->xTruncate(real_file(file), size);
}

static int file_sync(sqlite3_file *file, int flags) {
    return below_methods(file)->xSync(real_file(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size) {
    return below_methods(file)->xFileSize(real_file(file), size);
}

static int file_control(sqlite3_file *file, int operation, void *argument) {
    connection *c = (connection *)file;
    switch (operation) {
    case SQLITE_FCNTL_LOCKSTATE:
        *(int *)argument = c->level;
        return SQLITE_OK;
    case SQLITE_FCNTL_VFSNAME:
        *(char **)argument = sqlite3_mprintf("locket");
        return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED:
        *(int *)argument = database_has_moved(c);
        return SQLITE_OK;
    case SQLITE_FCNTL_CKPT_START:
        /* The number of frames that are about to be backfilled has to be seen before the first of them is: a
         * process that recovers after this one was killed goes by it. */
        index_barrier(file);
        return below_methods(file)->xFileControl(real_file(file), operation, argument);
    case SQLITE_FCNTL_LOCK_TIMEOUT: {
        int before = c->timeout;
        c->timeout = *(int *)argument < 0 ? INT32_MAX : *(int *)argument;
        *(int *)argument = before;
        return SQLITE_OK;
    }
    default:
        return below_methods(file)->xFileControl(real_file(file), operation, argument);
    }
}

static int file_sector_size(sqlite3_file *file) {
    return below_methods(file)->xSectorSize(real_file(file));
}

static int file_characteristics(sqlite3_file *file) {
    return below_methods(file)->xDeviceCharacteristics(real_file(file));
}

/* Version 2: a component has no memory-mapped files. */
static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = index_map,
    .xShmLock = index_lock,
    .xShmBarrier = index_barrier,
    .xShmUnmap = index_unmap,
};

/* SQLite looks for a folder for temporary files where a component has none. */
static void name_temporary_folder(const char *database) {
    static const char *const usual[] = {"/var/tmp", "/usr/tmp", "/tmp"};
    struct stat found;
    if (sqlite3_temp_directory || getenv("SQLITE_TMPDIR") || getenv("TMPDIR")) return;
    for (int i = 0; i < 3; i++) {
        if (stat(usual[i], &found) == 0) return;
    }
    const char *end = strrchr(database, '/');
    if (end && end > database) sqlite3_temp_directory = sqlite3_mprintf("%.*s", (int)(end - database), database);
}

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *opened) {
    (void)vfs;
    if (!(flags & SQLITE_OPEN_MAIN_DB)) return below->xOpen(below, name, file, flags, opened);
    connection *c = (connection *)file;
    memset(c, 0, sizeof *c);
    int result = below->xOpen(below, name, real_file(file), flags, opened);
    if (result != SQLITE_OK) return result;
    struct stat opened_now;
    if (stat(name, &opened_now) != 0) {
        below_methods(file)->xClose(real_file(file));
        return SQLITE_CANTOPEN;
    }
    name_temporary_folder(name);
    c->path = name;
    c->device = opened_now.st_dev;
    c->inode = opened_now.st_ino;
    c->file.pMethods = &methods;
    return SQLITE_OK;
}

/* WASI synchronizes no folders. */
static int vfs_delete(sqlite3_vfs *vfs, const char *name, int synchronizes) {
    (void)vfs;
    (void)synchronizes;
    return below->xDelete(below, name, 0);
}

/* SQLite sleeps before it asks for a lock again. */
static int vfs_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    int milliseconds = (microseconds + 999) / 1000;
    if (!lock_wait(milliseconds)) microseconds = below->xSleep(below, microseconds);
    database_refresh();
    return microseconds;
}

int locket_sqlite_register(int is_default) {
    static sqlite3_vfs vfs;
    if (!below) {
        sqlite3_vfs *unlocked = sqlite3_vfs_find("unix-none");
        if (!unlocked) return SQLITE_NOTFOUND;
        /* Everything else works on names, and as below. */
        vfs = *unlocked;
        vfs.pNext = NULL;
        vfs.zName = "locket";
        vfs.szOsFile = (int)sizeof(connection) + unlocked->szOsFile;
        vfs.xOpen = vfs_open;
        vfs.xDelete = vfs_delete;
        vfs.xSleep = vfs_sleep;
        below = unlocked;
    }
    return sqlite3_vfs_register(&vfs, is_default);
}

int locket_sqlite_init(const char *unused) {
    (void)unused;
    return locket_sqlite_register(1);
}
