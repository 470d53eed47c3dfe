/* What the files of this library share. */
#ifndef LOCKET_INTERNAL_H
#define LOCKET_INTERNAL_H

#include "locket.h"
#include "locket_wit.h"

/* The error of the interface, which is freed. */
locket_error locket_translated(locket_lock_api_error_t *error);

/* A timeout as the interface has it; only meaningful if it is not negative. */
static inline uint32_t locket_millis(int64_t timeout) {
    return timeout > UINT32_MAX ? UINT32_MAX : (uint32_t)timeout;
}

#endif
