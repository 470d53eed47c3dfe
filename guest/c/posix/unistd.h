/* lockf(), which the C library of WASI lacks; see src/lockf.c. */
#ifndef LOCKET_UNISTD_H
#define LOCKET_UNISTD_H

#pragma GCC system_header
#include_next <unistd.h>

#ifndef F_ULOCK
#define F_ULOCK 0
#define F_LOCK 1
#define F_TLOCK 2
#define F_TEST 3
#endif

#ifdef __cplusplus
extern "C" {
#endif

int lockf(int fd, int function, off_t size);

#ifdef __cplusplus
}
#endif
#endif
