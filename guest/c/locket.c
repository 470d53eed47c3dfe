#include "locket.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef locket_lock_api_error_t wit_error;

static const struct {
    const char *name, *text;
} errors[] = {
    [LOCKET_OK] = {"ok", "no error"},
    [LOCKET_WOULD_BLOCK] = {"would-block", "the lock is held"},
    [LOCKET_TIMEOUT] = {"timeout", "the lock did not become free in time"},
    [LOCKET_NOT_LOCKED] = {"not-locked", "the lock is not held"},
    [LOCKET_NOT_OWNER] = {"not-owner", "the lock is not ours to release"},
    [LOCKET_DEADLOCK] = {"deadlock", "waiting for the lock could never end"},
    [LOCKET_ACCESS_DENIED] = {"access-denied", "access to the lock is denied"},
    [LOCKET_NO_ENTRY] = {"no-entry", "the lock does not exist"},
    [LOCKET_INVALID_PATH] = {"invalid-path", "this cannot be the path of a lock"},
    [LOCKET_LIMIT_EXCEEDED] = {"limit-exceeded", "a quota of this component is used up"},
    [LOCKET_NOT_SUPPORTED] = {"not-supported", "the protocol or mode is not supported"},
    [LOCKET_UNAVAILABLE] = {"unavailable", "the server of the lock cannot be reached"},
    [LOCKET_CANCELED] = {"canceled", "the host canceled the wait"},
    [LOCKET_OTHER] = {"other", "the lock failed"},
    [LOCKET_CLOSED] = {"closed", "the lock was closed"},
    [LOCKET_LOST_EXPIRED] = {"lost expired", "the lock was lost: its time ran out"},
    [LOCKET_LOST_BROKEN] = {"lost broken", "the lock was lost: it was taken away"},
    [LOCKET_LOST_DISCONNECTED] = {"lost disconnected",
                                  "the lock was lost: its server cannot be reached"},
    [LOCKET_LOST_IO] = {"lost io", "the lock was lost: its file system failed"},
    [LOCKET_IO_NO_SPACE] = {"io no-space", "the file system is full"},
    [LOCKET_IO_QUOTA] = {"io quota", "the disk quota is used up"},
    [LOCKET_IO_READ_ONLY] = {"io read-only", "the file system is read-only"},
    [LOCKET_IO_STALE] = {"io stale", "the file vanished on its server"},
    [LOCKET_IO_TOO_MANY_FILES] = {"io too-many-files", "the host is out of file descriptors"},
    [LOCKET_IO_TOO_MANY_LOCKS] = {"io too-many-locks", "the host is out of locks"},
    [LOCKET_IO_OTHER] = {"io other", "I/O failed"},
};

const char *locket_strerror(locket_error error) { return errors[error].text; }

const char *locket_error_name(locket_error error) { return errors[error].name; }

locket_error locket_translated(wit_error *error) {
    static const locket_error plain[] = {
        [LOCKET_LOCK_API_ERROR_WOULD_BLOCK] = LOCKET_WOULD_BLOCK,
        [LOCKET_LOCK_API_ERROR_TIMEOUT] = LOCKET_TIMEOUT,
        [LOCKET_LOCK_API_ERROR_NOT_LOCKED] = LOCKET_NOT_LOCKED,
        [LOCKET_LOCK_API_ERROR_NOT_OWNER] = LOCKET_NOT_OWNER,
        [LOCKET_LOCK_API_ERROR_DEADLOCK] = LOCKET_DEADLOCK,
        [LOCKET_LOCK_API_ERROR_ACCESS_DENIED] = LOCKET_ACCESS_DENIED,
        [LOCKET_LOCK_API_ERROR_NO_ENTRY] = LOCKET_NO_ENTRY,
        [LOCKET_LOCK_API_ERROR_INVALID_PATH] = LOCKET_INVALID_PATH,
        [LOCKET_LOCK_API_ERROR_LIMIT_EXCEEDED] = LOCKET_LIMIT_EXCEEDED,
        [LOCKET_LOCK_API_ERROR_NOT_SUPPORTED] = LOCKET_NOT_SUPPORTED,
        [LOCKET_LOCK_API_ERROR_UNAVAILABLE] = LOCKET_UNAVAILABLE,
        [LOCKET_LOCK_API_ERROR_CANCELED] = LOCKET_CANCELED,
        [LOCKET_LOCK_API_ERROR_OTHER] = LOCKET_OTHER,
    };
    switch (error->tag) {
    case LOCKET_LOCK_API_ERROR_LOST:
        return LOCKET_LOST_EXPIRED + error->val.lost;
    case LOCKET_LOCK_API_ERROR_IO:
        return LOCKET_IO_NO_SPACE + error->val.io;
    default:
        locket_lock_api_error_free(error);
        return plain[error->tag];
    }
}

static locket_lock_api_borrow_lock_file_t borrowed(const locket_t *lock) {
    return (locket_lock_api_borrow_lock_file_t){lock->handle};
}

locket_error locket_open(locket_t *lock, const char *path) {
    return locket_open_with(lock, path, NULL);
}

locket_error locket_open_with(locket_t *lock, const char *path, const locket_options *options) {
    static const locket_options none;
    if (!options) options = &none;
    locket_wit_string_t name = {(uint8_t *)path, strlen(path)};
    locket_lock_api_options_t chosen = {
        .protocol = {.is_some = options->protocol != LOCKET_PROTOCOL_DEFAULT,
                     .val = options->protocol - LOCKET_PROTOCOL_NATIVE},
        .on_release = options->remove_on_release,
    };
    locket_lock_api_own_lock_file_t opened;
    wit_error error;
    lock->handle = 0;
    if (!locket_lock_api_static_lock_file_open_with(&name, &chosen, &opened, &error))
        return locket_translated(&error);
    lock->handle = opened.__handle;
    return LOCKET_OK;
}

void locket_close(locket_t *lock) {
    if (!lock->handle) return;
    locket_lock_api_lock_file_drop_own((locket_lock_api_own_lock_file_t){lock->handle});
    lock->handle = 0;
}

locket_error locket_acquire(locket_t *lock, locket_mode mode, int64_t timeout) {
    if (!lock->handle) return LOCKET_CLOSED;
    uint32_t millis = locket_millis(timeout);
    locket_lock_api_grant_t grant;
    wit_error error;
    if (!locket_lock_api_method_lock_file_acquire(borrowed(lock), mode,
                                                  timeout < 0 ? NULL : &millis, &grant, &error))
        return locket_translated(&error);
    return LOCKET_OK;
}

locket_error locket_release(locket_t *lock) {
    wit_error error;
    if (!lock->handle) return LOCKET_CLOSED;
    if (!locket_lock_api_method_lock_file_release(borrowed(lock), &error)) return locket_translated(&error);
    return LOCKET_OK;
}

locket_error locket_is_locked(const locket_t *lock, bool *is_locked) {
    wit_error error;
    if (!lock->handle) return LOCKET_CLOSED;
    if (!locket_lock_api_method_lock_file_is_locked(borrowed(lock), is_locked, &error))
        return locket_translated(&error);
    return LOCKET_OK;
}

locket_state locket_get_state(const locket_t *lock) {
    locket_state state = {.is = LOCKET_UNLOCKED, .left = LOCKET_FOREVER};
    if (!lock->handle) return state;
    locket_lock_api_state_t found;
    locket_lock_api_method_lock_file_state(borrowed(lock), &found);
    switch (found.tag) {
    case LOCKET_LOCK_API_STATE_HELD:
        state.is = LOCKET_HELD;
        state.has_token = found.val.held.token.is_some;
        if (state.has_token) state.token = found.val.held.token.val;
        if (found.val.held.valid_for.is_some) state.left = found.val.held.valid_for.val;
        break;
    case LOCKET_LOCK_API_STATE_UNCERTAIN:
        state.is = LOCKET_UNCERTAIN;
        state.left = found.val.uncertain;
        break;
    case LOCKET_LOCK_API_STATE_LOST:
        state.is = LOCKET_LOST;
        state.lost = LOCKET_LOST_EXPIRED + found.val.lost;
        break;
    }
    return state;
}

locket_error locket_get_holder(const locket_t *lock, locket_holder *holder) {
    *holder = (locket_holder){0};
    if (!lock->handle) return LOCKET_CLOSED;
    locket_lock_api_option_holder_t found;
    wit_error error;
    if (!locket_lock_api_method_lock_file_holder(borrowed(lock), &found, &error))
        return locket_translated(&error);
    if (!found.is_some) return LOCKET_OK;
    const locket_wit_string_t *label = &found.val.label.val;
    *holder = (locket_holder){
        .is_held = true,
        .is_self = found.val.is_self,
        .has_mode = found.val.mode.is_some,
        .mode = found.val.mode.is_some ? (locket_mode)found.val.mode.val : LOCKET_EXCLUSIVE,
        .label = found.val.label.is_some ? strndup((const char *)label->ptr, label->len) : NULL,
    };
    locket_lock_api_option_holder_free(&found);
    return LOCKET_OK;
}

void locket_holder_free(locket_holder *holder) {
    free(holder->label);
    *holder = (locket_holder){0};
}

locket_error locket_get_guarantee(const locket_t *lock, locket_guarantee *guarantee) {
    *guarantee = (locket_guarantee){.ttl = LOCKET_FOREVER};
    if (!lock->handle) return LOCKET_CLOSED;
    locket_lock_api_guarantee_t found;
    locket_lock_api_method_lock_file_guarantee(borrowed(lock), &found);
    guarantee->scope = (locket_scope)found.scope;
    guarantee->fifo = found.fifo;
    guarantee->fencing = found.fencing;
    if (found.ttl.is_some) guarantee->ttl = found.ttl.val;
    return LOCKET_OK;
}

locket_guard locket_hold(locket_t *lock, locket_mode mode, int64_t timeout) {
    locket_error error = locket_acquire(lock, mode, timeout);
    return (locket_guard){error == LOCKET_OK ? lock : NULL, error};
}

locket_error locket_guard_release(locket_guard *guard) {
    if (!guard->lock) return LOCKET_NOT_LOCKED;
    locket_t *lock = guard->lock;
    guard->lock = NULL;
    return locket_release(lock);
}

void locket_guard_end(locket_guard *guard) { locket_guard_release(guard); }
