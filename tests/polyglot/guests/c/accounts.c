/* Moves money between accounts, which are records of one file, with only those two records locked. A
 * program for any Unix. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ACCOUNTS = 8 };

struct account {
    long long balance;
    long long moves;
};

static off_t place(int number) { return (off_t)number * (off_t)sizeof(struct account); }

static void lock(int fd, short type, int number) {
    struct flock lock = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = place(number),
        .l_len = sizeof(struct account),
    };
    while (fcntl(fd, F_SETLKW, &lock) < 0)
        if (errno != EINTR) {
            perror("F_SETLKW");
            exit(2);
        }
}

static void change(int fd, int number, long long amount) {
    struct account it;
    if (pread(fd, &it, sizeof it, place(number)) != sizeof it) exit(3);
    it.balance += amount;
    it.moves++;
    if (pwrite(fd, &it, sizeof it, place(number)) != sizeof it) exit(3);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int fd = open(argv[1], O_RDWR);
    if (fd < 0) {
        perror(argv[1]);
        return 2;
    }
    srand((unsigned)atoi(argv[3]));
    for (int rounds = atoi(argv[2]); rounds > 0; rounds--) {
        int from = rand() % ACCOUNTS, to = rand() % ACCOUNTS;
        if (from == to) to = (to + 1) % ACCOUNTS;
        /* In the order of the file, so that no two wait for each other. */
        lock(fd, F_WRLCK, from < to ? from : to);
        lock(fd, F_WRLCK, from < to ? to : from);
        change(fd, from, -1);
        change(fd, to, 1);
        lock(fd, F_UNLCK, from);
        lock(fd, F_UNLCK, to);
    }
    return 0;
}
