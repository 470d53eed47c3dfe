/* Sets of locked bytes, by which record locks are converted, split and merged. */
#include <stdlib.h>
#include <string.h>

#include "posix.h"

bool locket_spans_reserve(spans *these, size_t more) {
    if (these->room - these->count >= more) return true;
    size_t room = these->count * 2 + more;
    span *items = realloc(these->items, room * sizeof *items);
    if (!items) return false;
    these->items = items;
    these->room = room;
    return true;
}

/* The index of the first span that does not end before `byte`. */
static size_t index_of(const spans *these, uint64_t byte) {
    size_t low = 0, high = these->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (these->items[middle].last < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Replaces `old` spans from an index on. */
static void splice(spans *these, size_t at, size_t old, const span *new, size_t count) {
    span *end = these->items + at + old;
    size_t behind = these->count - at - old;
    memmove(these->items + at + count, end, behind * sizeof *end);
    if (count) memcpy(these->items + at, new, count * sizeof *new);
    these->count += count - old;
}

void locket_spans_remove(spans *these, uint64_t first, uint64_t last) {
    size_t at = index_of(these, first), end = at;
    span left[2];
    size_t count = 0;
    for (; end < these->count && these->items[end].first <= last; end++) {
        span it = these->items[end];
        if (it.first < first) left[count++] = (span){it.first, first - 1, it.mode};
        if (it.last > last) left[count++] = (span){last + 1, it.last, it.mode};
    }
    splice(these, at, end - at, left, count);
}

void locket_spans_insert(spans *these, span added) {
    locket_spans_remove(these, added.first, added.last);
    size_t at = index_of(these, added.first), end = at;
    if (at > 0) {
        span before = these->items[at - 1];
        if (before.mode == added.mode && before.last + 1 == added.first) {
            added.first = before.first;
            at--;
        }
    }
    if (end < these->count) {
        span after = these->items[end];
        if (after.mode == added.mode && added.last + 1 == after.first) {
            added.last = after.last;
            end++;
        }
    }
    splice(these, at, end - at, &added, 1);
}

const span *locket_spans_find(const spans *these, uint64_t first, uint64_t last) {
    size_t at = index_of(these, first);
    bool is_there = at < these->count && these->items[at].first <= last;
    return is_there ? &these->items[at] : NULL;
}

const span *locket_spans_conflict(const spans *these, span wanted) {
    for (size_t at = index_of(these, wanted.first);
         at < these->count && these->items[at].first <= wanted.last; at++) {
        const span *it = &these->items[at];
        if (it->mode == LOCKET_EXCLUSIVE || wanted.mode == LOCKET_EXCLUSIVE) return it;
    }
    return NULL;
}
