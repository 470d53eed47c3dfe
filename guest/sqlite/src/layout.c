/* What component.rs takes for granted. */
#include "locket_ranges.h"

_Static_assert(sizeof(locket_ranges_t) == sizeof(void *), "a handle is a pointer");
_Static_assert(LOCKET_OK == 0 && LOCKET_IO_OTHER == 25, "the errors are the same, in the same order");
_Static_assert(LOCKET_EXCLUSIVE == 0 && LOCKET_SHARED == 1, "the modes are the same");
