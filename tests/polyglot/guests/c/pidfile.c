/* Runs once: a daemon whose process number is in a file that it locks with lockf(). A program for any
 * Unix. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/run/daemon.pid";
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        perror(path);
        return 2;
    }
    if (lockf(fd, F_TLOCK, 0) < 0) {
        if (errno != EACCES && errno != EAGAIN) {
            perror("lockf");
            return 2;
        }
        char holder[16] = "";
        if (read(fd, holder, sizeof holder - 1) < 0) return 2;
        printf("already running: %s", *holder ? holder : "?\n");
        return 1;
    }
    char number[16];
    snprintf(number, sizeof number, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, number, strlen(number)) < 0) return 2;
    puts("running");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
