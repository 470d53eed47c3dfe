/* Runs only one instance at a time. A program for any Unix, without anything specific to components. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/run/daemon.lock";
    int fd = open(path, O_RDWR | O_CREAT, 0640);
    if (fd < 0) {
        perror(path);
        return 2;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            perror("flock");
            return 2;
        }
        puts("already running");
        return 1;
    }
    puts("running");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
