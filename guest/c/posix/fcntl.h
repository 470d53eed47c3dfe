/* The commands of fcntl() that lock, which the C library of WASI lacks; see src/fcntl.c. */
#ifndef LOCKET_FCNTL_H
#define LOCKET_FCNTL_H

#pragma GCC system_header
#include_next <fcntl.h>

#ifndef F_RDLCK
#define F_RDLCK 0
#define F_WRLCK 1
#define F_UNLCK 2
#endif

/* The numbers that newer versions of the library use. */
#ifndef F_GETLK
#define F_GETLK 7
#define F_SETLK 8
#define F_SETLKW 9
#endif

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

#endif
