/* What flock() does, and must do alike as a native program and as a component. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "line %d: %s (%d)\n", __LINE__, #condition, errno); \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

/* Whether a call failed with this error. */
#define FAILS(call, error) ((call) == -1 && errno == (error))

int main(int argc, char **argv) {
    CHECK(argc == 2 && !chdir(argv[1]));
    int a = open("lock", O_RDWR | O_CREAT, 0600);
    int b = open("./lock", O_RDONLY);
    CHECK(a >= 0 && b >= 0);

    /* Two descriptors that were opened apart exclude each other. */
    CHECK(!flock(a, LOCK_EX));
    CHECK(FAILS(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK));
    CHECK(FAILS(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK));
    CHECK(!flock(b, LOCK_UN));
    CHECK(!flock(a, LOCK_EX | LOCK_NB));

    /* Conversions: not in one step, so that one which fails costs the lock. */
    CHECK(!flock(a, LOCK_SH));
    CHECK(!flock(b, LOCK_SH | LOCK_NB));
    CHECK(FAILS(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK));
    CHECK(!flock(b, LOCK_EX | LOCK_NB));
    CHECK(!flock(b, LOCK_UN));
    CHECK(!flock(b, LOCK_UN));

    /* The end of the descriptor is the end of the lock. */
    CHECK(!flock(a, LOCK_EX));
    CHECK(!close(a));
    CHECK(!flock(b, LOCK_EX | LOCK_NB));
    CHECK(FAILS(flock(a, LOCK_EX), EBADF));
    CHECK(FAILS(flock(-1, LOCK_EX), EBADF));
    CHECK(FAILS(flock(b, 0), EINVAL));
    CHECK(FAILS(flock(b, LOCK_SH | LOCK_EX), EINVAL));

    /* However it was opened. */
    FILE *stream = fopen("lock", "r");
    int folder = open(".", O_RDONLY | O_DIRECTORY);
    int at = openat(folder, "lock", O_RDONLY);
    CHECK(stream && folder >= 0 && at >= 0);
    CHECK(FAILS(flock(fileno(stream), LOCK_SH | LOCK_NB), EWOULDBLOCK));
    CHECK(FAILS(flock(at, LOCK_SH | LOCK_NB), EWOULDBLOCK));
    CHECK(!flock(b, LOCK_UN));
    CHECK(!flock(fileno(stream), LOCK_SH | LOCK_NB) && !flock(at, LOCK_SH | LOCK_NB));
    CHECK(!fclose(stream) && !close(at) && !close(b));

    /* Numbers are used again. */
    for (int i = 0; i < 1000; i++) {
        int fd = open("lock", O_RDWR);
        CHECK(fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) && !close(fd));
    }

#ifdef __wasi__
    /* Only here: a file whose name leads elsewhere cannot be locked. */
    int moved = open("lock", O_RDWR);
    CHECK(moved >= 0 && !rename("lock", "elsewhere"));
    CHECK(FAILS(flock(moved, LOCK_EX), ESTALE));
    CHECK(open("lock", O_RDWR | O_CREAT, 0600) >= 0);
    CHECK(FAILS(flock(moved, LOCK_EX), ESTALE));
#endif
    return 0;
}
