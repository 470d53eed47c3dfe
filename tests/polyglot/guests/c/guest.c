/* The test guest in C. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "locket.h"
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The locks by name. A closed one is a free place. */
static struct {
    char name[16];
    locket_t lock;
} locks[128];

static locket_t *find(const char *name) {
    for (size_t i = 0; i < COUNT(locks); i++)
        if (locks[i].lock.handle && !strcmp(locks[i].name, name)) return &locks[i].lock;
    return NULL;
}

static locket_error open_lock(const char *name, char *words) {
    static const char *const protocols[] = {
        [LOCKET_PROTOCOL_NATIVE] = "native",   [LOCKET_PROTOCOL_FLOCK] = "flock",
        [LOCKET_PROTOCOL_FCNTL] = "fcntl",     [LOCKET_PROTOCOL_LINK] = "link",
        [LOCKET_PROTOCOL_SYMLINK] = "symlink", [LOCKET_PROTOCOL_MKDIR] = "mkdir",
        [LOCKET_PROTOCOL_PID_FILE] = "pid-file", [LOCKET_PROTOCOL_SOFT] = "soft",
        [LOCKET_PROTOCOL_SQLITE] = "sqlite",
    };
    locket_options options = {0};
    char *last = strrchr(words, ' ');
    for (size_t i = LOCKET_PROTOCOL_NATIVE; last && i < COUNT(protocols); i++)
        if (!strcmp(last + 1, protocols[i])) options.protocol = i;
    if (options.protocol) *last = 0;

    locket_t opened;
    locket_error error = locket_open_with(&opened, words, &options);
    if (error) return error;
    locket_t *there = find(name);
    for (size_t i = 0; !there && i < COUNT(locks); i++)
        if (!locks[i].lock.handle) {
            there = &locks[i].lock;
            snprintf(locks[i].name, sizeof locks[i].name, "%s", name);
        }
    locket_close(there);
    *there = opened;
    return LOCKET_OK;
}

/* Milliseconds, or `none`. */
static bool parse(const char *text, int64_t *timeout) {
    char *end;
    errno = 0;
    *timeout = strcmp(text, "none") ? strtoll(text, &end, 10) : LOCKET_FOREVER;
    if (*timeout == LOCKET_FOREVER) return *text == 'n';
    return *text && !*end && !errno && *timeout >= 0;
}

/* What scoped() fails with on purpose. */
enum { INSIDE = -1 };

static int scoped(locket_t *lock, int64_t timeout) {
    LOCKET_SCOPED locket_guard guard = locket_hold(lock, LOCKET_EXCLUSIVE, timeout);
    if (guard.error) return guard.error;
    return INSIDE;
}

static locket_error count(locket_t *lock, int times) {
    for (int i = 0; i < times; i++) {
        LOCKET_SCOPED locket_guard guard = locket_hold(lock, LOCKET_EXCLUSIVE, LOCKET_FOREVER);
        if (guard.error) return guard.error;
        locket_test_counter_write(locket_test_counter_read() + 1);
    }
    return LOCKET_OK;
}

/* Cuts the first word off. */
static char *word(char **rest) {
    char *found = *rest, *space = strchr(found, ' ');
    *rest = space ? space + 1 : found + strlen(found);
    if (space) *space = 0;
    return found;
}

/* How a command went, with what it results in. */
static locket_error obey(char *command, const char **result) {
    char *verb = word(&command), *name = word(&command);
    int64_t timeout;
    if (!strcmp(verb, "trap")) __builtin_trap();
    if (!strcmp(verb, "open")) return open_lock(name, command);
    locket_t *lock = find(name);
    if (!lock) return LOCKET_CLOSED;
    if (!strcmp(verb, "release")) return locket_release(lock);
    if (!strcmp(verb, "count")) return count(lock, atoi(command));
    if (!strcmp(verb, "drop")) {
        locket_close(lock);
        return LOCKET_OK;
    }
    if (!strcmp(verb, "is-locked")) {
        bool is_locked = false;
        locket_error error = locket_is_locked(lock, &is_locked);
        *result = is_locked ? "true" : "false";
        return error;
    }
    if (!strcmp(verb, "state")) {
        static const char *const names[] = {"unlocked", "held", "uncertain"};
        locket_state state = locket_get_state(lock);
        *result = state.is == LOCKET_LOST ? locket_error_name(state.lost) : names[state.is];
        return LOCKET_OK;
    }
    if (!strcmp(verb, "holder")) {
        static char found[64];
        locket_holder holder;
        locket_error error = locket_get_holder(lock, &holder);
        static const char *const modes[] = {"exclusive", "shared"};
        const char *mode = holder.has_mode ? modes[holder.mode] : "-";
        if (holder.is_held)
            snprintf(found, sizeof found, "%s %s %s", holder.is_self ? "self" : "other", mode,
                     holder.label ? holder.label : "-");
        *result = holder.is_held ? found : "none";
        locket_holder_free(&holder);
        return error;
    }
    if (!strcmp(verb, "guarantee")) {
        static char found[64];
        locket_guarantee guarantee;
        locket_error error = locket_get_guarantee(lock, &guarantee);
        snprintf(found, sizeof found, "scope=%d fifo=%d fencing=%d ttl=%lld", guarantee.scope,
                 guarantee.fifo, guarantee.fencing, (long long)guarantee.ttl);
        *result = found;
        return error;
    }
    if (!strcmp(verb, "acquire")) {
        locket_mode mode = strcmp(word(&command), "shared") ? LOCKET_EXCLUSIVE : LOCKET_SHARED;
        return parse(command, &timeout) ? locket_acquire(lock, mode, timeout) : LOCKET_OTHER;
    }
    if (!strcmp(verb, "scoped") && parse(command, &timeout)) {
        int error = scoped(lock, timeout);
        if (error != INSIDE) return error;
        *result = "inside";
        return LOCKET_OK;
    }
    return LOCKET_OTHER;
}

void exports_test_run(test_string_t *command, test_string_t *reply) {
    char *line = strndup((char *)command->ptr, command->len);
    test_string_free(command);
    const char *result = "";
    locket_error error = obey(line, &result);
    free(line);
    char answer[96];
    if (error) snprintf(answer, sizeof answer, "err %s", locket_error_name(error));
    else snprintf(answer, sizeof answer, "ok%s%s", *result ? " " : "", result);
    test_string_dup(reply, answer);
}
