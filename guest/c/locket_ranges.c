#include "locket_ranges.h"

#include <string.h>

#include "internal.h"

typedef locket_lock_api_error_t wit_error;
typedef locket_lock_ranges_range_t wit_range;

static locket_lock_ranges_borrow_range_file_t borrowed(const locket_ranges_t *ranges) {
    return (locket_lock_ranges_borrow_range_file_t){ranges->handle};
}

locket_error locket_ranges_open(locket_ranges_t *ranges, const char *path) {
    locket_wit_string_t name = {(uint8_t *)path, strlen(path)};
    locket_lock_ranges_own_range_file_t opened;
    wit_error error;
    ranges->handle = 0;
    if (!locket_lock_ranges_static_range_file_open(&name, &opened, &error))
        return locket_translated(&error);
    ranges->handle = opened.__handle;
    return LOCKET_OK;
}

void locket_ranges_close(locket_ranges_t *ranges) {
    if (!ranges->handle) return;
    locket_lock_ranges_range_file_drop_own(
        (locket_lock_ranges_own_range_file_t){ranges->handle});
    ranges->handle = 0;
}

locket_error locket_ranges_lock(locket_ranges_t *ranges, locket_mode mode, locket_range range,
                                int64_t timeout) {
    if (!ranges->handle) return LOCKET_CLOSED;
    uint32_t millis = locket_millis(timeout);
    wit_range wanted = {range.start, range.length};
    wit_error error;
    if (!locket_lock_ranges_method_range_file_lock(borrowed(ranges), mode, &wanted,
                                                   timeout < 0 ? NULL : &millis, &error))
        return locket_translated(&error);
    return LOCKET_OK;
}

locket_error locket_ranges_unlock(locket_ranges_t *ranges, locket_range range) {
    if (!ranges->handle) return LOCKET_CLOSED;
    wit_range wanted = {range.start, range.length};
    wit_error error;
    if (!locket_lock_ranges_method_range_file_unlock(borrowed(ranges), &wanted, &error))
        return locket_translated(&error);
    return LOCKET_OK;
}

locket_error locket_ranges_query(const locket_ranges_t *ranges, locket_mode mode, locket_range range,
                                 locket_conflict *conflict) {
    *conflict = (locket_conflict){0};
    if (!ranges->handle) return LOCKET_CLOSED;
    wit_range wanted = {range.start, range.length};
    locket_lock_ranges_option_conflict_t found;
    wit_error error;
    if (!locket_lock_ranges_method_range_file_query(borrowed(ranges), mode, &wanted, &found, &error))
        return locket_translated(&error);
    if (!found.is_some) return LOCKET_OK;
    *conflict = (locket_conflict){
        .is_there = true,
        .mode = (locket_mode)found.val.mode,
        .range = {found.val.range.start, found.val.range.length},
    };
    return LOCKET_OK;
}
