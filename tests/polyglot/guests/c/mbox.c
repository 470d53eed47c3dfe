/* Delivers messages into a mailbox, locked by fcntl() and lockf() as mail programs do. A program for any
 * Unix. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, const char *text) {
    for (size_t left = strlen(text); left > 0;) {
        ssize_t done = write(fd, text, left);
        if (done < 0) return -1;
        text += done;
        left -= (size_t)done;
    }
    return 0;
}

static int deliver(const char *path, const char *sender, int number) {
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0) return -1;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(fd, F_SETLKW, &whole) < 0)
        if (errno != EINTR) return -1;
    if (lockf(fd, F_LOCK, 0) < 0) return -1;

    /* The size before, to which the mailbox goes back if there is no space left. */
    struct stat before;
    char text[128];
    int written = fstat(fd, &before);
    if (lseek(fd, before.st_size, SEEK_SET) < 0) return -1;
    snprintf(text, sizeof text, "From %s\nSubject: %d\n\n", sender, number);
    if (!written) written = write_all(fd, text);
    for (int line = 0; line < 5 && !written; line++) {
        snprintf(text, sizeof text, "%s says %d\n", sender, number);
        written = write_all(fd, text);
    }
    if (!written) written = write_all(fd, "\n");
    if (written && ftruncate(fd, before.st_size) < 0) return -1;

    whole.l_type = F_UNLCK;
    if (fcntl(fd, F_SETLK, &whole) < 0) return -1;
    return close(fd) < 0 ? -1 : written;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    for (int number = 0; number < atoi(argv[2]); number++) {
        if (deliver(argv[1], argv[3], number)) {
            perror(argv[1]);
            return 2;
        }
    }
    return 0;
}
