/* Increments the number in a file. No count is lost if several instances run at the same time. */
#include <stdio.h>

#include "locket.h"

int main(void) {
    LOCKET_CLOSING locket_t lock = {0};
    locket_error error = locket_open(&lock, "/jobs/count.lock");
    if (error != LOCKET_OK) {
        fprintf(stderr, "/jobs/count.lock: %s\n", locket_strerror(error));
        return 1;
    }
    LOCKET_SCOPED locket_guard guard = locket_hold(&lock, LOCKET_EXCLUSIVE, 30000);
    if (guard.error != LOCKET_OK) {
        fprintf(stderr, "/jobs/count.lock: %s\n", locket_strerror(guard.error));
        return 1;
    }
    int count = 0;
    FILE *file = fopen("/jobs/count", "r");
    if (file && fscanf(file, "%d", &count) != 1) count = 0;
    if (file) fclose(file);
    file = fopen("/jobs/count", "w");
    if (!file) return 1;
    fprintf(file, "%d\n", count + 1);
    return fclose(file) != 0;
}
