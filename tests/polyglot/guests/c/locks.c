/* Locks as it is told to, line by line, and answers each line with one: natively and as a component. The
 * first argument is a folder. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    char name[16];
    int fd;
} files[16];

static int answered(const char *text) {
    puts(text);
    return fflush(stdout);
}

static int failed(void) {
    static const struct {
        int error;
        const char *name;
    } names[] = {
        {EACCES, "EACCES"},   {EAGAIN, "EAGAIN"},       {EBADF, "EBADF"},         {EDEADLK, "EDEADLK"},
        {EINTR, "EINTR"},     {EINVAL, "EINVAL"},       {EISDIR, "EISDIR"},       {ENOENT, "ENOENT"},
        {ENOLCK, "ENOLCK"},   {EOVERFLOW, "EOVERFLOW"}, {ETIMEDOUT, "ETIMEDOUT"}, {ESTALE, "ESTALE"},
        {EOPNOTSUPP, "EOPNOTSUPP"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].error == errno) return answered(names[i].name);
    return answered(strerror(errno));
}

static int result(int value) { return value < 0 ? failed() : answered("ok"); }

/* A file that was opened under a name, or a number. */
static int find(const char *name) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strcmp(files[i].name, name)) return files[i].fd;
    return atoi(name);
}

static int opened(const char *name, const char *path, const char *how) {
    int flags = !strcmp(how, "r") ? O_RDONLY : !strcmp(how, "w") ? O_WRONLY | O_CREAT : O_RDWR | O_CREAT;
    int fd = open(path, flags, 0600);
    for (size_t i = 0; fd >= 0 && i < sizeof files / sizeof *files; i++) {
        if (files[i].name[0] && strcmp(files[i].name, name)) continue;
        snprintf(files[i].name, sizeof files[i].name, "%s", name);
        files[i].fd = fd;
        break;
    }
    return result(fd);
}

/* "r set 0 10": a type, where the start counts from, the start, the length. */
static struct flock lock_of(const char *text) {
    char type[16], whence[16];
    long long start, length;
    struct flock lock = {.l_type = 77, .l_whence = 77};
    if (sscanf(text, "%15s %15s %lld %lld", type, whence, &start, &length) != 4) exit(3);
    if (!strcmp(type, "r")) lock.l_type = F_RDLCK;
    if (!strcmp(type, "w")) lock.l_type = F_WRLCK;
    if (!strcmp(type, "u")) lock.l_type = F_UNLCK;
    if (!strcmp(whence, "set")) lock.l_whence = SEEK_SET;
    if (!strcmp(whence, "cur")) lock.l_whence = SEEK_CUR;
    if (!strcmp(whence, "end")) lock.l_whence = SEEK_END;
    lock.l_start = start;
    lock.l_len = length;
    return lock;
}

static int get(int fd, int command, const char *text) {
    struct flock lock = lock_of(text), asked = lock;
    if (fcntl(fd, command, &lock)) return failed();
    if (lock.l_type == F_UNLCK) {
        asked.l_type = F_UNLCK;
        return answered(memcmp(&asked, &lock, sizeof lock) ? "changed more than the type" : "free");
    }
#ifdef __wasi__
    if (lock.l_pid != -1) return answered("told a process");
#endif
    if (lock.l_whence != SEEK_SET) return answered("not from the start");
    printf("%s %lld %lld\n", lock.l_type == F_WRLCK ? "w" : "r", (long long)lock.l_start,
           (long long)lock.l_len);
    return fflush(stdout);
}

static int set(int fd, int command, const char *text) {
    struct flock lock = lock_of(text);
    return result(fcntl(fd, command, &lock));
}

/* Locks single bytes with gaps, until that fails. */
static int many(int fd, int count) {
    for (int i = 0; i < count; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i * 2LL, .l_len = 1};
        if (fcntl(fd, F_SETLK, &lock) == 0) continue;
        printf("%d ", i);
        return failed();
    }
    return answered("ok");
}

static int lockf_by_name(int fd, const char *how, long long length) {
    int function = !strcmp(how, "lock") ? F_LOCK : !strcmp(how, "tlock") ? F_TLOCK :
                   !strcmp(how, "ulock") ? F_ULOCK : !strcmp(how, "test") ? F_TEST : 77;
    return result(lockf(fd, function, length));
}

static int flock_by_name(int fd, const char *how) {
    int operation = strstr(how, "ex") ? LOCK_EX : strstr(how, "sh") ? LOCK_SH : LOCK_UN;
    return result(flock(fd, operation | (strstr(how, "nb") ? LOCK_NB : 0)));
}

static int flags(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return failed();
    int access = flags & O_ACCMODE;
    printf("%s%s\n", access == O_RDWR ? "rw" : access == O_WRONLY ? "w" : "r",
           flags & O_APPEND ? " append" : "");
    return fflush(stdout);
}

static int run(const char *command, const char *name, const char *rest) {
    if (!strcmp(command, "open")) {
        char path[16], how[16];
        if (sscanf(rest, "%15s %15s", path, how) != 2) exit(3);
        return opened(name, path, how);
    }
    if (!strcmp(command, "mkdir")) return result(mkdir(name, 0700));
    if (!strcmp(command, "unlink")) return result(unlink(name));
    if (!strcmp(command, "rename")) return result(rename(name, rest));
    int fd = find(name);
    if (!strcmp(command, "close")) return result(close(fd));
    if (!strcmp(command, "get")) return get(fd, F_GETLK, rest);
    if (!strcmp(command, "set")) return set(fd, F_SETLK, rest);
    if (!strcmp(command, "setw")) return set(fd, F_SETLKW, rest);
    if (!strcmp(command, "oget")) return get(fd, F_OFD_GETLK, rest);
    if (!strcmp(command, "oset")) return set(fd, F_OFD_SETLK, rest);
    if (!strcmp(command, "osetw")) return set(fd, F_OFD_SETLKW, rest);
    if (!strcmp(command, "lockf")) {
        char how[16];
        long long length;
        if (sscanf(rest, "%15s %lld", how, &length) != 2) exit(3);
        return lockf_by_name(fd, how, length);
    }
    if (!strcmp(command, "flock")) return flock_by_name(fd, rest);
    if (!strcmp(command, "seek")) return result(lseek(fd, atoll(rest), SEEK_SET) < 0 ? -1 : 0);
    if (!strcmp(command, "size")) return result(ftruncate(fd, atoll(rest)));
    if (!strcmp(command, "many")) return many(fd, atoi(rest));
    if (!strcmp(command, "flags")) return flags(fd);
    if (!strcmp(command, "append")) return result(fcntl(fd, F_SETFL, O_APPEND));
    if (!strcmp(command, "fcntl")) return result(fcntl(fd, atoi(rest), 0));
    return answered("what?");
}

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1])) return 2;
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        char command[16] = "", name[16] = "";
        int end = 0;
        line[strcspn(line, "\n")] = 0;
        sscanf(line, "%15s %15s %n", command, name, &end);
        if (run(command, name, line + end)) return 1;
    }
    return 0;
}
