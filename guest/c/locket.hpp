/// File locks for C++23, built on locket.h. Works without exceptions.
///
///     auto lock = locket::lock_file::open("/jobs/app.lock");
///     if (!lock) return report(lock.error().message());
///     auto guard = lock->acquire(30s);
///     if (!guard) return report(guard.error().message());
///     // The lock is held until `guard` goes out of scope.
///
/// Calls return std::expected.
#ifndef LOCKET_HPP
#define LOCKET_HPP

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "locket.h"

namespace locket {

/// Why a call did not succeed: one of LOCKET_….
class error {
public:
    constexpr explicit(false) error(locket_error code) noexcept : code_{code} {}

    constexpr locket_error code() const noexcept { return code_; }

    /// A description for people.
    const char *message() const noexcept { return locket_strerror(code_); }

    /// The name as the interface spells it.
    const char *name() const noexcept { return locket_error_name(code_); }

    /// Whether the component held the lock and no longer holds it.
    constexpr bool is_lost() const noexcept {
        return code_ >= LOCKET_LOST_EXPIRED && code_ <= LOCKET_LOST_IO;
    }

    friend constexpr bool operator==(error, error) = default;

private:
    locket_error code_;
};

template <class T = void>
using result = std::expected<T, error>;

/// The kind of access that a hold grants, and thus which other holds it excludes.
enum class mode { exclusive = LOCKET_EXCLUSIVE, shared = LOCKET_SHARED };

/// How long to wait: a duration, rounded up to milliseconds, or indefinitely. A negative duration
/// counts as zero.
class timeout {
public:
    constexpr timeout() noexcept = default;

    template <class Rep, class Period>
    constexpr explicit(false) timeout(std::chrono::duration<Rep, Period> time) noexcept {
        auto millis = std::chrono::ceil<std::chrono::duration<double, std::milli>>(time).count();
        millis_ = millis <= 0 ? 0 : millis >= UINT32_MAX ? UINT32_MAX : std::int64_t(millis);
    }

    constexpr std::int64_t millis() const noexcept { return millis_; }

private:
    std::int64_t millis_ = LOCKET_FOREVER;
};

inline constexpr timeout forever{};

namespace detail {

inline result<> checked(locket_error code) {
    if (code != LOCKET_OK) return std::unexpected(error{code});
    return {};
}

}  // namespace detail

/// A hold. Its destructor releases the lock.
class [[nodiscard]] guard {
public:
    guard(guard &&other) noexcept : guard_{std::exchange(other.guard_, {})} {}
    guard &operator=(guard &&other) noexcept {
        std::swap(guard_, other.guard_);
        return *this;
    }
    ~guard() { locket_guard_end(&guard_); }

    /// Releases the lock before the end of the scope and reports errors.
    result<> release() { return detail::checked(locket_guard_release(&guard_)); }

private:
    friend class lock_file;
    explicit guard(locket_guard guard) noexcept : guard_{guard} {}

    locket_guard guard_;
};

/// A handle to the lock of one file. Its destructor releases the holds acquired through it. Do not
/// move it while guards of it exist.
class lock_file {
public:
    /// Opens the lock of the file at `path`, and creates the file if it is missing and may be created.
    /// Does not acquire the lock.
    static result<lock_file> open(std::string_view path, locket_options options = {}) {
        if (path.contains('\0')) return std::unexpected(error{LOCKET_INVALID_PATH});
        lock_file opened;
        auto code = locket_open_with(&opened.lock_, std::string{path}.c_str(), &options);
        if (code != LOCKET_OK) return std::unexpected(error{code});
        return opened;
    }

    lock_file(lock_file &&other) noexcept : lock_{std::exchange(other.lock_, {})} {}
    lock_file &operator=(lock_file &&other) noexcept {
        std::swap(lock_, other.lock_);
        return *this;
    }
    ~lock_file() { locket_close(&lock_); }

    /// Acquires the lock exclusively. It is held until the guard ends.
    result<guard> acquire(timeout timeout = forever) { return hold(LOCKET_EXCLUSIVE, timeout); }

    /// Acquires the lock in shared mode, with other readers. It is held until the guard ends.
    result<guard> acquire_shared(timeout timeout = forever) { return hold(LOCKET_SHARED, timeout); }

    /// Acquires the lock without a guard. It is held until `release` or the end of this handle.
    result<> lock(mode mode = mode::exclusive, timeout timeout = forever) {
        return detail::checked(locket_acquire(&lock_, locket_mode(mode), timeout.millis()));
    }

    /// Releases one hold.
    result<> release() { return detail::checked(locket_release(&lock_)); }

    /// Whether the lock is held, by this component or another holder.
    result<bool> is_locked() const {
        bool is_locked;
        auto code = locket_is_locked(&lock_, &is_locked);
        if (code != LOCKET_OK) return std::unexpected(error{code});
        return is_locked;
    }

    /// The state of this component's own hold.
    locket_state state() const { return locket_get_state(&lock_); }

private:
    lock_file() = default;

    result<guard> hold(locket_mode mode, timeout timeout) {
        auto held = locket_hold(&lock_, mode, timeout.millis());
        if (held.error != LOCKET_OK) return std::unexpected(error{held.error});
        return guard{held};
    }

    locket_t lock_{};
};

}  // namespace locket

#endif
